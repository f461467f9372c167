"""Whole networks to replay signatures in: on the same chain, on a chain of another reference, on one of another id.

A `World` is ready for every case beside it: each could be carried in each world, if it were signed for it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boa
import pytest

from tests.contracts.conftest import (
    CHANGE_DELAY,
    DELAY,
    DOLLAR,
    GRACE,
    KEPT_EPOCHS,
    MAX_VALIDITY,
    MIN_STAKE,
    ONE,
    REF,
    SECURITY_CHAIN,
    UNBONDING,
    VALIDATORS,
    VALIDITY,
    VETO_FEE,
    WEIGHTS,
    WELCOME,
    WELCOME_CHAIN,
    Hub,
    account,
    as_abi,
    contract,
    raw,
)
from tristrata.bindings.artifacts import decode_error, load
from tristrata.protocol.authorization import Asset
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ChainRef, SessionId, checksum, eip155
from tristrata.protocol.signing import Domain

CHILD, SIBLING = (ChainRef(bytes([number]) * 32) for number in (0xC1, 0xC2))
CHILD_SETTLEMENT = b"\x41" * 32
HUB, OTHER_HUB = (ChainRef(bytes([number]) * 32) for number in (0xD1, 0xD2))
FIRST = {"miner": 95, "router": 5}
ACTIVATION, MIN_BOND = 300, 100
CONTRACTS = (
    *("TestDollar", "RouterRegistry", "Sessions", "Outbox", "Settlement", "MinerRegistry", "Welcome"),
    *("StakeToken", "ValidatorSet", "CheckpointLedger"),
)
PEOPLE = ("owner", "other owner", "user", "other user", "miner", "rival")


class World(Hub):
    """A hub, a Welcome Center, a ledger with its validators, and their two tokens, all on the chain of `boa.env`."""

    def __init__(self, ref: bytes = REF, number: int = 0) -> None:
        """Worlds of the same ``number`` have the same addresses, each on its own chain."""
        self.env, self.ref, self.number = boa.env, ChainRef(ref), number
        operator = account("operator")
        with boa.env.prank(operator):
            dollar = self.deploy("testing/TestDollar.vy")
            routers = self.deploy(
                "orchestration/RouterRegistry.vy", dollar.address, self.at("Sessions"), 0, GRACE, CHANGE_DELAY
            )
            welcome = WELCOME_CHAIN, WELCOME.rjust(32, b"\0")
            sessions = self.deploy(
                "orchestration/Sessions.vy",
                *(ref, dollar.address, self.at("Settlement"), routers.address, operator, *welcome, GRACE, CHANGE_DELAY),
            )
            outbox = self.deploy("messaging/Outbox.vy", ref, operator, self.at("Settlement"), MAX_VALIDITY, KEPT_EPOCHS)
            settlement = self.deploy(
                "orchestration/Settlement.vy",
                *(ref, dollar.address, sessions.address, outbox.address, DELAY, VETO_FEE),
                *(SECURITY_CHAIN, VALIDATORS.rjust(32, b"\0")),
            )
            self.miners = self.deploy(
                "orchestration/MinerRegistry.vy",
                *(ref, dollar.address, MIN_BOND, GRACE, outbox.address, account("task queue"), CHANGE_DELAY),
            )
            self.welcome = self.deploy(
                "onboarding/Welcome.vy", ref, dollar.address, outbox.address, operator, CHANGE_DELAY
            )
            self.stake = self.deploy("security/StakeToken.vy")
            self.validators = self.deploy(
                "security/ValidatorSet.vy",
                *(
                    self.stake.address,
                    self.at("CheckpointLedger"),
                    operator,
                    MIN_STAKE,
                    VALIDITY,
                    ACTIVATION,
                    UNBONDING,
                ),
                *(5_000, 1_000, CHANGE_DELAY),
            )
            self.ledger = self.deploy("security/CheckpointLedger.vy", ref, self.validators.address, CHANGE_DELAY)
        super().__init__(dollar, sessions, settlement, operator, outbox, routers)
        with boa.env.prank(operator):
            self.set_destinations()
            self.publish_validators()
            self.add_children()
        self.fill()

    def at(self, name: str) -> str:
        return checksum(Address(keccak(f"{name} {self.number}".encode())[12:]))

    def deploy(self, path: str, *arguments: Any) -> Any:
        name = path.split("/")[1].removesuffix(".vy")
        return contract(path, *arguments, at=self.at(name))

    @property
    def kinds(self) -> tuple[Any, ...]:
        """All contracts that have a domain of ours."""
        return self.sessions, self.settlement, self.outbox, self.miners, self.welcome, self.ledger

    def domain(self, contract: Any) -> Domain:
        """A contract's domain, on the chain as it is now."""
        chain = eip155(self.env.evm.patch.chain_id)
        return Domain(chain, self.ref, Address(bytes.fromhex(contract.address[2:])))

    def asset(self, token: Any) -> Asset:
        """A token's own domain, on the chain as it is now."""
        return Asset(self.env.evm.patch.chain_id, raw_of(token), token.name(), "1")

    def set_destinations(self) -> None:
        destinations = [(ref, b"\x31" * 32, 100 * DOLLAR) for ref in (HUB, OTHER_HUB)]
        for destination in destinations:
            self.welcome.announce(keccak(self.welcome.set_destination.prepare_calldata(*destination)))
        boa.env.time_travel(CHANGE_DELAY)
        for destination in destinations:
            self.welcome.set_destination(*destination)

    def publish_validators(self) -> None:
        for name, stake in WEIGHTS.items():
            self.stake.mint(account(name), stake)
            self.stake.approve(self.validators.address, stake, sender=account(name))
            self.validators.register(account(name), stake, sender=account(name))
        self.validators.announce(keccak(self.validators.set_slashable.prepare_calldata(CHILD, True)))
        boa.env.time_travel(max(ACTIVATION, CHANGE_DELAY))
        self.validators.set_slashable(CHILD, True)
        self.validators.allocate(CHILD, MIN_STAKE, sender=account(ONE))
        self.validators.publish([account(name) for name in sorted(WEIGHTS, key=raw)])
        self.adopt()

    def add_children(self) -> None:
        for ref in (CHILD, SIBLING):
            self.outbox.add_child(ref)
            self.ledger.add_chain(ref, self.ref, self.domain(self.outbox).separator, CHILD_SETTLEMENT)

    def fill(self) -> None:
        """People with money, two charged sessions, two miners, two balances at the Welcome Center."""
        for name in PEOPLE:
            self.fund(name, 100 * DOLLAR)
        for name in ("owner", "other owner"):
            self.register(name)
        for nonce in (1, 2):
            self.sessions.open(nonce, 10 * DOLLAR, as_abi(self.terms()), sender=account("owner"))
            self.charge(self.session(nonce), 1, FIRST)
        for name in ("miner", "rival"):
            self.dollar.approve(self.miners.address, MIN_BOND, sender=account(name))
            keys = account(f"{name} signs"), keccak(name.encode()), bytes(32)
            self.miners.register(*keys, 1, MIN_BOND, sender=account(name))
        for name in ("user", "other user"):
            self.dollar.approve(self.welcome.address, 10 * DOLLAR, sender=account(name))
            self.welcome.deposit(10 * DOLLAR, sender=account(name))
        self.stake.mint(account("owner"), 10, sender=self.operator)
        boa.env.time_travel(blocks=2, block_delta=1)

    def session(self, nonce: int) -> SessionId:
        return SessionId(self.sessions.session_id(account("owner"), nonce))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be on this world's chain; what happens there is undone afterwards."""
        with boa.swap_env(self.env), self.env.anchor():
            yield


def raw_of(contract: Any) -> Address:
    return Address(bytes.fromhex(contract.address[2:]))


def stored() -> dict[tuple[Any, int], int]:
    """All that any contract of this chain keeps: every slot that any call ever wrote, if it is not empty."""
    state = boa.env.evm.vm.state
    return {
        (address, slot): value
        for address, slots in boa.env.sstore_trace.items()
        for slot in slots
        if (value := state.get_storage(address.canonical_address, slot))
    }


@cache
def errors() -> tuple[str, ...]:
    """The errors of all contracts of a world."""
    return tuple({error for name in CONTRACTS for error in load(name).errors})


def refusals(calls: Iterable[Callable[[], object]]) -> set[str]:
    """The errors with which calls are refused, which must change nothing. Ours are named; snekmate's are words."""
    before = stored()
    found = {refusal(call) for call in calls}
    assert stored() == before
    return found


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(boa.BoaError) as caught:
        call()
    output = bytes(caught.value.call_trace.output)
    found = decode_error(output, errors())
    if found is not None:
        return found[0]
    text = decode_error(output, ("Error(string)",))
    assert text is not None, f"neither a named error nor words: 0x{output.hex()}"
    return str(text[1][0])
