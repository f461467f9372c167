"""A hub in titanoboa: its contracts, a registered owner with test dollars, validators, and keys for everyone."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import boa
import msgspec
import pytest
from boa.contracts.vyper.vyper_contract import VyperContract
from coincurve import PrivateKey

from tristrata.bindings.artifacts import _contracts_folder, _snekmate_parent, decode_error, load
from tristrata.bindings.hub import charge_arguments
from tristrata.protocol.attestation import Checkpoint, Epoch, NextSet, ValidatorSet, make_set
from tristrata.protocol.epoch import epoch_root
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, SessionId, chain_ref, checksum, eip155, session_id
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.signing import Domain, address_of, compact, digest, sign
from tristrata.protocol.standard_tree import StandardTree, payout_leaf
from tristrata.protocol.terms import OpenSession, Terms
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher import SignedVoucher, Split, Voucher, parse_splits, splits_hash

CHAIN = eip155(1)  # titanoboa's
REF = chain_ref(CHAIN)
WELCOME_CHAIN = chain_ref(eip155(8453))
WELCOME = b"\x11" * 20
GRACE = 60
DOLLAR = 10**6
DELAY = 100
CHANGE_DELAY = 50
MAX_VALIDITY = 2 * 10**6
KEPT_EPOCHS = 8
SECURITY_CHAIN = chain_ref(eip155(11155111))
VALIDATORS = b"\x77" * 20
VETO_FEE = 5 * DOLLAR
ONE, TWO, THREE = "validator one", "validator two", "validator three"
WEIGHTS = {ONE: 40, TWO: 35, THREE: 25}
VALIDITY, UNBONDING, MIN_STAKE = 1_000, 5_000, 20
QUORUM = (ONE, TWO)  # 75 of 100; no other two reach 67


# A charge, its splits, and what their payees had before: the arguments of `Settlement.charge`.
ChargeCall = tuple[tuple[Any, ...], list[int], list[int]]


@pytest.fixture(scope="session", autouse=True)
def _search_paths() -> None:
    boa.interpret.set_search_paths([str(_contracts_folder()), str(_snekmate_parent())])


@pytest.fixture(scope="session", autouse=True)
def _short_repr() -> Iterator[None]:
    """Titanoboa writes out storage at each revert: slowly, and wrongly once the address was another contract's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VyperContract, "__repr__", lambda self: f"<{self.contract_name} at {self.address}>")
        yield


@pytest.fixture(scope="module", autouse=True)
def _own_chain() -> Iterator[None]:
    """A chain for each file: at each transaction py-evm walks through every account that it ever saw."""
    with boa.swap_env(boa.Env()):
        yield


@pytest.fixture(autouse=True)
def _clean_chain() -> Iterator[None]:
    with boa.env.anchor():
        yield


def key(name: str) -> PrivateKey:
    return PrivateKey(keccak(name.encode()))


def account(name: str) -> str:
    return checksum(address_of(key(name).public_key))


def raw(name: str) -> Address:
    return address_of(key(name).public_key)


def as_abi(struct: msgspec.Struct) -> tuple[Any, ...]:
    """A struct as titanoboa takes it: addresses as text."""
    return tuple(
        checksum(Address(value)) if isinstance(value, bytes) and len(value) == 20 else value
        for value in msgspec.structs.astuple(struct)
    )


def contract(path: str, *arguments: Any, at: str | None = None) -> Any:
    return _deployer(path).deploy(*arguments, override_address=at)


@cache
def _deployer(path: str) -> Any:
    return boa.load_partial(str(_contracts_folder() / path))


@contextmanager
def reverts(artifact: str, name: str, *values: Any) -> Iterator[None]:
    """The call must revert with the named error, and with these values where they are given."""
    with pytest.raises(boa.BoaError) as caught:
        yield
    output = bytes(caught.value.call_trace.output)
    found = decode_error(output, load(artifact).errors)
    assert found is not None, f"not a named error: 0x{output.hex()}"
    assert found[0] == name
    if values:
        assert found[1] == values


def domain_of(contract: Any) -> Domain:
    return Domain(CHAIN, REF, Address(bytes.fromhex(contract.address[2:])))


def validator_set(
    number: int = 1, weights: Mapping[str, int] = WEIGHTS, valid_until: int | None = None
) -> ValidatorSet:
    until = boa.env.timestamp + 10**6 if valid_until is None else valid_until
    return make_set(number, {raw(name): Amount(weight) for name, weight in weights.items()}, Timestamp(until))


def sign_all(
    domain: Domain, signed: Epoch | Checkpoint | NextSet, signers: Iterable[str] = QUORUM
) -> list[tuple[bytes, bytes]]:
    """Signatures as contracts take them, in order of signer."""
    message = digest(domain.separator, signed.struct_hash)
    return [compact(sign(key(name), message)) for name in sorted(signers, key=raw)]


class Payouts:
    """What an epoch pays to whom, as a tree."""

    def __init__(self, amounts: Mapping[str, int], sums: Mapping[str, bytes] | None = None) -> None:
        self.amounts = amounts
        self.sums = sums or {}
        self.names = list(amounts)
        leaves = [payout_leaf(raw(name), Amount(amount), self.sums_of(name)) for name, amount in amounts.items()]
        self.tree = StandardTree(leaves)
        self.root = self.tree.root

    def sums_of(self, name: str) -> bytes:
        return self.sums.get(name, b"\x66" * 32)

    def payout(self, name: str) -> tuple[int, bytes]:
        """A payout as contracts take it."""
        return Split(raw(name), Amount(self.amounts[name])).packed, self.sums_of(name)

    def proof(self, name: str) -> list[bytes]:
        return list(self.tree.prove(self.names.index(name)))

    def many(self, *names: str) -> tuple[list[Any], list[bytes], int]:
        """Payouts, common proof and flags of several payees."""
        found = self.tree.prove_many([self.names.index(name) for name in names])
        bits = sum(1 << place for place, flag in enumerate(found.flags) if flag)
        return [self.payout(self.names[index]) for index in found.order], list(found.siblings), bits


@dataclass
class Hub:
    dollar: Any
    sessions: Any
    settlement: Any
    operator: str
    outbox: Any
    routers: Any
    last: dict[bytes, tuple[int, tuple[Split, ...]]] = field(default_factory=dict)

    def domain(self, contract: Any) -> Domain:
        return domain_of(contract)

    def adopt(self, validators: ValidatorSet | None = None) -> ValidatorSet:
        """Have the inbox deliver a validator set."""
        adopted = validators or validator_set()
        self.outbox.set_from_l1(adopted.number, adopted.valid_until, list(adopted.packed), sender=self.operator)
        return adopted

    def next_epoch(self, payouts_root: bytes = bytes(32), **changes: Any) -> Epoch:
        """The epoch that comes next, up to the block before this one."""
        fields = {
            "epoch": self.outbox.last_epoch() + 1,
            "block_number": boa.env.evm.patch.block_number - 1,
            "receipts_root": b"\x44" * 32,
            "payouts_root": payouts_root,
            "content": b"\x55" * 32,
        }
        return Epoch(**{**fields, **changes})

    def settle(
        self, payouts_root: bytes = bytes(32), charges: Iterable[Any] = (), signers: Iterable[str] = QUORUM
    ) -> tuple[int, bytes, bytes]:
        """Seal the next epoch through `Settlement`, some blocks later; gives the seal that claims name."""
        boa.env.time_travel(blocks=2, block_delta=1)
        epoch = self.next_epoch(payouts_root)
        signatures = sign_all(self.domain(self.outbox), epoch, signers)
        calls = list(charges)
        self.settlement.settle(*settle_arguments(calls), as_abi(epoch), signatures, sender=account("anyone"))
        for call in calls:
            self.remember(call)
        return self.seal_of(epoch)

    def remember(self, call: ChargeCall) -> None:
        """Note what a call has charged, for the next charge and for `claim_direct`."""
        (session, count, *_), splits, _ = call
        self.last[session] = (count, parse_splits(splits))

    def seal_of(self, epoch: Epoch) -> tuple[int, bytes, bytes]:
        """What claims name of a sealed epoch: its number, its root, and the hash of what the quorum signed."""
        root = epoch_root(
            REF,
            epoch.epoch,
            self.outbox.messages_root(),
            epoch.receipts_root,
            epoch.payouts_root,
            self.outbox.children_root(),
        )
        return epoch.epoch, root, epoch.struct_hash

    def claim(self, seal: tuple[int, bytes, bytes], payouts: Payouts, name: str) -> int:
        return self.settlement.claim(seal, payouts.payout(name), payouts.proof(name))

    def claim_direct(self, session: bytes, index: int) -> int:
        count, splits = self.last[session]
        return self.settlement.claim_direct(session, count, packed(splits), index)

    def charge_call(
        self,
        session: bytes,
        count: int,
        earned: dict[str, int],
        signer: str = "session key",
        after: tuple[int, dict[str, int]] | None = None,
    ) -> ChargeCall:
        """The arguments of one `charge`, after the last one or, in one `settle`, after another of the same session."""
        splits = ordered(earned)
        last = None if after is None else (after[0], ordered(after[1]))
        return self.call_of(self.voucher(session, count, splits), splits, signer, last)

    def call_of(
        self,
        voucher: Voucher,
        splits: tuple[Split, ...],
        signer: str = "session key",
        after: tuple[int, tuple[Split, ...]] | None = None,
    ) -> ChargeCall:
        signed = SignedVoucher(voucher, splits, self.sign(voucher, signer))
        last = after or self.last.get(SessionId(voucher.session), (0, ()))
        (call,), words, before = charge_arguments([(signed, last)])
        return call, words, before

    def register(self, name: str, role: int = 1) -> None:
        payload = (1).to_bytes(32, "big") + raw(name).rjust(32, b"\0") + role.to_bytes(32, "big")
        self.sessions.on_message(WELCOME_CHAIN, WELCOME.rjust(32, b"\0"), payload, sender=self.operator)

    def fund(self, name: str, amount: int) -> None:
        self.dollar.mint(account(name), amount, sender=self.operator)
        self.dollar.approve(self.sessions.address, 2**256 - 1, sender=account(name))

    def terms(self, **changes: Any) -> Terms:
        fields = {
            "session_key": raw("session key"),
            "router": raw("router"),
            "managed": False,
            "model_id": b"\x22" * 32,
            "assurance": Assurance.NONE,
            "replicas": 1,
            "router_bps": 500,
            "max_prompt_price": 10**6,
            "max_output_price": 10**6,
            "max_per_day": 0,
            "exposure_cap": DOLLAR,
            "expiry": boa.env.timestamp + 10_000,
        }
        return Terms(**{**fields, **changes})

    def open(self, deposit: int = 10 * DOLLAR, nonce: int = 1, owner: str = "owner", **changes: Any) -> SessionId:
        """Open a session that its owner has approved; a managed one is brought by its router."""
        terms = self.terms(**changes)
        if terms.managed:
            order = OpenSession(raw(owner), nonce, Amount(deposit), Timestamp(boa.env.timestamp), terms)
            no_permit = (0, 27, bytes(32), bytes(32))
            self.sessions.open_for(
                *as_abi(order)[:-1], as_abi(terms), self.order(order, owner), *no_permit, sender=checksum(terms.router)
            )
        else:
            self.sessions.open(nonce, deposit, as_abi(terms), sender=account(owner))
        return session_id(REF, raw(owner), nonce)

    def order(self, order: Any, signer: str, contract: Any = None) -> bytes:
        """The signature of an order, for `Sessions` or another contract."""
        return sign(key(signer), digest(self.domain(contract or self.sessions).separator, order.struct_hash))

    def voucher(self, session: bytes, count: int, splits: tuple[Split, ...]) -> Voucher:
        total = Amount(sum(split.amount for split in splits))
        return Voucher(SessionId(session), count, total, b"\x33" * 32, splits_hash(splits))

    def sign(self, voucher: Voucher, signer: str = "session key", contract: Any = None) -> bytes:
        separator = self.domain(contract or self.settlement).separator
        return sign(key(signer), digest(separator, voucher.struct_hash))

    def charge(self, session: bytes, count: int, earned: dict[str, int], signer: str = "session key") -> None:
        call = self.charge_call(session, count, earned, signer)
        self.settlement.charge(*call, sender=account("anyone"))
        self.remember(call)


def ordered(earned: dict[str, int]) -> tuple[Split, ...]:
    return tuple(sorted(Split(raw(name), Amount(amount)) for name, amount in earned.items() if amount))


def packed(splits: tuple[Split, ...]) -> list[int]:
    return [split.packed for split in splits]


def settle_arguments(calls: Iterable[ChargeCall]) -> tuple[list[Any], list[int], list[int]]:
    """The charges, splits and splits before of several calls, as `settle` takes them."""
    calls = list(calls)
    return (
        [call for call, _, _ in calls],
        [word for _, splits, _ in calls for word in splits],
        [word for _, _, before in calls for word in before],
    )


@pytest.fixture
def hub() -> Hub:
    return make_hub()


def make_hub(asset: Any = None, unsecured_limit: int = 0) -> Hub:
    operator = boa.env.generate_address("operator")
    settlement_address, sessions_address = boa.env.generate_address(), boa.env.generate_address()
    with boa.env.prank(operator):
        dollar = asset or contract("testing/TestDollar.vy")
        routers = contract(
            "orchestration/RouterRegistry.vy", dollar.address, sessions_address, unsecured_limit, GRACE, CHANGE_DELAY
        )
        sessions = contract(
            "orchestration/Sessions.vy",
            REF,
            dollar.address,
            settlement_address,
            routers.address,
            operator,
            WELCOME_CHAIN,
            WELCOME.rjust(32, b"\0"),
            GRACE,
            CHANGE_DELAY,
            at=sessions_address,
        )
        outbox = contract("messaging/Outbox.vy", REF, operator, settlement_address, MAX_VALIDITY, KEPT_EPOCHS)
        settlement = contract(
            "orchestration/Settlement.vy",
            REF,
            dollar.address,
            sessions.address,
            outbox.address,
            DELAY,
            VETO_FEE,
            SECURITY_CHAIN,
            VALIDATORS.rjust(32, b"\0"),
            at=settlement_address,
        )
    hub = Hub(dollar, sessions, settlement, operator, outbox, routers)
    hub.register("owner")
    hub.fund("owner", 1_000 * DOLLAR)
    return hub


class Validators:
    """The set with its token and its ledger; each validator's account is another than its signer."""

    ACTIVATION = 300
    EQUIVOCATION, REWARD = 5_000, 1_000  # basis points

    def __init__(self) -> None:
        self.owner = boa.env.generate_address("security owner")
        self.inbox = boa.env.generate_address("inbox")
        self.bridge = boa.env.generate_address("message hub")
        ledger_address = boa.env.generate_address()  # it names the set, and the set names it
        with boa.env.prank(self.owner):
            self.token = contract("security/StakeToken.vy")
            self.set = contract(
                "security/ValidatorSet.vy",
                self.token.address,
                ledger_address,
                self.inbox,
                MIN_STAKE,
                VALIDITY,
                self.ACTIVATION,
                UNBONDING,
                self.EQUIVOCATION,
                self.REWARD,
                CHANGE_DELAY,
            )
            self.ledger = contract(
                "security/CheckpointLedger.vy", REF, self.set.address, CHANGE_DELAY, at=ledger_address
            )

    def change(self, contract: Any, function: str, *arguments: Any) -> None:
        """Announce a change, wait, and make it."""
        call = getattr(contract, function)
        contract.announce(keccak(call.prepare_calldata(*arguments)), sender=self.owner)
        boa.env.time_travel(CHANGE_DELAY)
        call(*arguments, sender=self.owner)

    def activate(self) -> None:
        """Wait until all stake weighs."""
        boa.env.time_travel(self.ACTIVATION)

    def fund(self, name: str, amount: int = 1_000) -> str:
        holder = account(f"account of {name}")
        self.token.mint(holder, amount, sender=self.owner)
        self.token.approve(self.set.address, 2**256 - 1, sender=holder)
        return holder

    def register(self, name: str, stake: int) -> str:
        holder = self.fund(name)
        self.set.register(account(name), stake, sender=holder)
        return holder

    def publish(self, *names: str) -> None:
        self.set.publish([account(name) for name in sorted(names, key=raw)], sender=account("anyone"))


@pytest.fixture
def validators() -> Validators:
    return Validators()


@pytest.fixture
def published(validators: Validators) -> Validators:
    for name, stake in WEIGHTS.items():
        validators.register(name, stake)
    validators.activate()
    validators.publish(*WEIGHTS)
    return validators
