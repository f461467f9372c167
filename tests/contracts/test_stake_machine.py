"""Any changes by several validators and their reporters, through `protocol` and through the contract: the same."""

from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

import boa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import asdict, replace

from tests.contracts.conftest import (
    CHANGE_DELAY,
    MIN_STAKE,
    UNBONDING,
    VALIDITY,
    Validators,
    account,
    as_abi,
    contract,
    key,
    raw,
    reverts,
)
from tristrata.protocol import slashing, stake
from tristrata.protocol.attestation import Checkpoint, Epoch, ValidatorSet
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ChainRef, checksum
from tristrata.protocol.signing import compact, digest, sign
from tristrata.protocol.slashing import Penalties, Slashing
from tristrata.protocol.stake import StakeRefused, StakeRules, Stakes
from tristrata.protocol.units import Amount, BasisPoints, Seconds, Timestamp

LEDGER = """
struct Checkpoint:
    root: bytes32
    lane: uint8
    timestamp: uint64

_TYPE: constant(bytes32) = keccak256("Checkpoint(bytes32 chain,uint64 epoch,bytes32 root)")
parent_of: HashMap[bytes32, bytes32]
outbox_separator_of: public(HashMap[bytes32, bytes32])
settlement_of: public(HashMap[bytes32, bytes32])
convicted: public(HashMap[bytes32, HashMap[uint64, bytes32]])
checkpoint: public(HashMap[bytes32, HashMap[uint64, Checkpoint]])
_separator: bytes32

@deploy
def __init__(separator: bytes32):
    self._separator = separator

@external
def add(ref: bytes32, parent: bytes32, separator: bytes32):
    self.parent_of[ref] = parent
    self.outbox_separator_of[ref] = separator
    self.settlement_of[ref] = ref

@external
def convict(ref: bytes32, epoch: uint64, root: bytes32):
    self.convicted[ref][epoch] = root
    self.checkpoint[ref][epoch].timestamp = convert(block.timestamp, uint64)

@external
@view
def checkpoint_digest(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32:
    separator: bytes32 = self._separator
    if self.parent_of[ref] != empty(bytes32):
        separator = self.outbox_separator_of[self.parent_of[ref]]
        if separator == empty(bytes32):
            raw_revert(abi_encode(self.parent_of[ref], method_id=method_id("NoOutbox(bytes32)")))
    return keccak256(concat(x"1901", separator, keccak256(abi_encode(_TYPE, ref, epoch, root))))

@external
@view
def attestation_digest(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32:
    return keccak256(concat(x"1901", self._separator, keccak256(abi_encode(_TYPE, ref, epoch, root))))
"""
pytestmark = pytest.mark.timeout(3_600)  # for the long profile
SEPARATOR, FUNDS, FILLERS = keccak(b"ledger"), 10_000, 30
HUB, OTHER, BARE, PRIVATE, ORPHAN = (
    ChainRef(keccak(name)) for name in (b"hub", b"other", b"no outbox", b"private", b"orphan")
)
LEDGER_CHAIN = ChainRef(bytes(32))
PARENTS = {HUB: LEDGER_CHAIN, OTHER: LEDGER_CHAIN, BARE: LEDGER_CHAIN, PRIVATE: HUB, ORPHAN: BARE}
LIE = Checkpoint(HUB, 1, b"\x01" * 32)
OUTBOXES = {chain: keccak(chain) for chain in (HUB, OTHER)}
ACTORS = [f"actor {number}" for number in range(4)]
KEYS = [f"key {number}" for number in range(5)]

actors = st.sampled_from(ACTORS)
keys = st.sampled_from(KEYS)
chains = st.sampled_from([HUB, OTHER])
amounts = st.integers(0, 60)
numbers = st.integers(1, 2)
some_keys = st.lists(st.sampled_from(KEYS[:4]), max_size=3)
roots = st.sampled_from([b"\x01" * 32, b"\x02" * 32])
checkpoints = st.builds(Checkpoint, st.just(HUB), numbers, roots)
epochs = st.builds(
    Epoch, numbers, st.sampled_from([5, 6]), st.just(bytes(32)), st.just(bytes(32)), st.just(b"\x07" * 32)
)


def rarely(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.none(), st.none(), strategy)


@cache
def ledger_alone() -> Any:
    return boa.loads_partial(LEDGER)


class AgainstThePureMachine(RuleBasedStateMachine):
    """All 32 seats are taken, 30 of them by validators that do nothing; four others push each other, and these, out."""

    base: ClassVar[tuple[Any, Any, Any, Slashing]]

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.token, self.set, self.ledger, self.pure = self.base
        self.false: list[tuple[ChainRef, Epoch]] = []

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    @staticmethod
    def make_base() -> tuple[Any, Any, Any, Slashing]:
        token = contract("testing/WeirdToken.vy")
        ledger = ledger_alone().deploy(SEPARATOR)
        rules = StakeRules(Amount(MIN_STAKE), Seconds(VALIDITY), Seconds(Validators.ACTIVATION), Seconds(UNBONDING))
        penalties = Penalties(BasisPoints(Validators.EQUIVOCATION), BasisPoints(Validators.REWARD))
        validators = contract(
            "security/ValidatorSet.vy",
            token.address,
            ledger.address,
            account("inbox"),
            *as_abi(rules),
            *as_abi(penalties),
            CHANGE_DELAY,
        )
        pure = Slashing(Stakes(rules), penalties, LEDGER_CHAIN, SEPARATOR, PARENTS, OUTBOXES)
        for chain, parent in PARENTS.items():
            ledger.add(chain, parent, OUTBOXES.get(chain, bytes(32)))
        for name in ACTORS + [f"filler {number}" for number in range(FILLERS)]:
            token.mint(account(name), FUNDS)
            token.approve(validators.address, 2**256 - 1, sender=account(name))
        sitting = [(f"filler {number}", f"filler's key {number}", 30 + number // 2) for number in range(FILLERS)]
        stakes = pure.stakes
        for name, signer, amount in [*sitting, *zip(ACTORS[:3], KEYS, (29, 40, 60), strict=False)]:
            validators.register(account(signer), amount, sender=account(name))
            registered = stake.Register(raw(name), raw(signer), Amount(amount))
            stakes, _ = stake.apply(stakes, registered, Timestamp(boa.env.timestamp))
        for chain in OUTBOXES:
            validators.announce(keccak(validators.set_slashable.prepare_calldata(chain, True)))
        boa.env.time_travel(Validators.ACTIVATION)
        for chain in OUTBOXES:
            validators.set_slashable(chain, True)
            stakes, _ = stake.apply(stakes, stake.SetSlashable(chain, True), Timestamp(boa.env.timestamp))
            for name in ACTORS[:2]:
                validators.allocate(chain, 10, sender=account(name))
                change = stake.Allocate(raw(name), chain, Amount(10))
                stakes, _ = stake.apply(stakes, change, Timestamp(boa.env.timestamp))
        # all have a seat but the first actor, whose stake is too small
        signers = stake.next_signers(stakes.stakers, Timestamp(boa.env.timestamp))
        validators.publish([checksum(signer) for signer in signers])
        stakes, _ = stake.apply(stakes, stake.Publish(signers), Timestamp(boa.env.timestamp))
        # one lie is proven from the start
        ledger.convict(HUB, 1, LIE.root)
        pure, _ = slashing.apply(replace(pure, stakes=stakes), slashing.Convict(LIE), Timestamp(boa.env.timestamp))
        return token, validators, ledger, pure

    def both(self, change: Any, call: Any, *arguments: Any, sender: str) -> None:
        now = Timestamp(boa.env.timestamp)
        try:
            if isinstance(change, slashing.SlashChange):
                after, events = slashing.apply(self.pure, change, now)
            else:
                stakes, events = stake.apply(self.pure.stakes, change, now)
                after = replace(self.pure, stakes=stakes)
        except StakeRefused as error:
            with reverts("ValidatorSet", error.error):
                call(*arguments, sender=account(sender))
        else:
            call(*arguments, sender=account(sender))
            self.pure = after
            assert [found for log in self.set.get_logs() if (found := told(log))] == [shown(event) for event in events]

    @rule(seconds=st.sampled_from([1, Validators.ACTIVATION - 1, Validators.ACTIVATION, UNBONDING - 1, UNBONDING]))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(actor=st.sampled_from(ACTORS[2:]), signer=keys, amount=st.integers(MIN_STAKE - 1, 80))
    def register(self, actor: str, signer: str, amount: int) -> None:
        change = stake.Register(raw(actor), raw(signer), Amount(amount))
        self.both(change, self.set.register, account(signer), amount, sender=actor)

    @rule(actor=actors, amount=amounts)
    def add_stake(self, actor: str, amount: int) -> None:
        self.both(stake.AddStake(raw(actor), Amount(amount)), self.set.add_stake, amount, sender=actor)

    @rule(actor=actors, signer=keys)
    def set_signer(self, actor: str, signer: str) -> None:
        self.both(stake.SetSigner(raw(actor), raw(signer)), self.set.set_signer, account(signer), sender=actor)

    @rule(actor=actors, chain=chains, amount=amounts)
    def allocate(self, actor: str, chain: ChainRef, amount: int) -> None:
        change = stake.Allocate(raw(actor), chain, Amount(amount))
        self.both(change, self.set.allocate, chain, amount, sender=actor)

    @rule(actor=actors, chain=chains, amount=amounts)
    def deallocate(self, actor: str, chain: ChainRef, amount: int) -> None:
        change = stake.Deallocate(raw(actor), chain, Amount(amount))
        self.both(change, self.set.deallocate, chain, amount, sender=actor)

    @rule(actor=actors, chain=chains)
    def release(self, actor: str, chain: ChainRef) -> None:
        self.both(stake.Release(raw(actor), chain), self.set.release, chain, sender=actor)

    @rule(actor=actors)
    def request_exit(self, actor: str) -> None:
        self.both(stake.RequestExit(raw(actor)), self.set.request_exit, sender=actor)

    @rule(actor=actors)
    def withdraw(self, actor: str) -> None:
        self.both(stake.Withdraw(raw(actor)), self.set.withdraw, sender=actor)

    @rule(left_out=rarely(st.integers(0, 31)), put_in=rarely(keys))
    def publish(self, left_out: int | None, put_in: str | None) -> None:
        signers = list(stake.next_signers(self.pure.stakes.stakers, Timestamp(boa.env.timestamp)))
        if left_out is not None and left_out < len(signers):
            del signers[left_out]
        if put_in is not None and len(signers) < 32:
            signers = sorted([*signers, raw(put_in)])
        call = self.set.publish
        self.both(stake.Publish(tuple(signers)), call, [checksum(signer) for signer in signers], sender="anyone")

    @rule(chain=chains, slashable=st.sampled_from([True, True, False]))
    def set_slashable(self, chain: ChainRef, slashable: bool) -> None:
        self.set.announce(keccak(self.set.set_slashable.prepare_calldata(chain, slashable)))
        boa.env.time_travel(CHANGE_DELAY)
        self.set.set_slashable(chain, slashable)
        stakes, _ = stake.apply(self.pure.stakes, stake.SetSlashable(chain, slashable), Timestamp(boa.env.timestamp))
        self.pure = replace(self.pure, stakes=stakes)

    @rule(checkpoint=checkpoints)
    def convict(self, checkpoint: Checkpoint) -> None:
        self.ledger.convict(checkpoint.chain, checkpoint.epoch, checkpoint.root)
        self.pure, _ = slashing.apply(self.pure, slashing.Convict(checkpoint), Timestamp(boa.env.timestamp))

    @rule(chain=chains, epoch=epochs)
    def prove_false(self, chain: ChainRef, epoch: Epoch) -> None:
        found = epoch.struct_hash
        self.set.on_message(chain, chain, b"\1".rjust(32, b"\0") + found, sender=account("inbox"))
        self.pure, _ = slashing.apply(self.pure, slashing.ProveFalse(chain, found), Timestamp(boa.env.timestamp))
        self.false.append((chain, epoch))

    @rule(
        actor=actors,
        chain=st.sampled_from([HUB, HUB, PRIVATE, PRIVATE, ORPHAN]),
        epoch=numbers,
        roots=st.tuples(roots, roots),
        by=st.tuples(keys, keys),
        same=st.booleans(),
        astray=rarely(st.sampled_from([SEPARATOR, *OUTBOXES.values()])),
    )
    def slash_equivocation(
        self,
        actor: str,
        chain: ChainRef,
        epoch: int,
        roots: tuple[bytes, bytes],
        by: tuple[str, str],
        same: bool,
        astray: bytes | None,
    ) -> None:
        separator = astray or (OUTBOXES[HUB] if chain == PRIVATE else SEPARATOR)
        messages = (digest(separator, Checkpoint(chain, epoch, root).struct_hash) for root in roots)
        signers = (by[0], by[0]) if same else by
        first, second = (sign(key(name), message) for name, message in zip(signers, messages, strict=True))
        change = slashing.SlashEquivocation(raw(actor), chain, epoch, roots, (first, second))
        arguments = (chain, epoch, *roots, compact(first), compact(second))
        self.both(change, self.set.slash_equivocation, *arguments, sender=actor)

    @rule(actor=actors, epoch=numbers, signers=some_keys, honest=st.booleans())
    def slash_conviction(self, actor: str, epoch: int, signers: list[str], honest: bool) -> None:
        convicted = self.pure.convicted.get((HUB, epoch))
        root = convicted.root if convicted and not honest else b"\x03" * 32
        message = digest(SEPARATOR, Checkpoint(HUB, epoch, root).struct_hash)
        signatures = tuple(sign(key(name), message) for name in signers)
        change = slashing.SlashConviction(raw(actor), HUB, epoch, signatures)
        arguments = (HUB, epoch, list(map(compact, signatures)))
        self.both(change, self.set.slash_conviction, *arguments, sender=actor)

    @rule(actor=actors, chain=chains, epoch=epochs, signers=some_keys, which=st.integers(0, 2))
    def slash_false_epoch(self, actor: str, chain: ChainRef, epoch: Epoch, signers: list[str], which: int) -> None:
        if which < len(self.false):
            chain, epoch = self.false[which]
        message = digest(OUTBOXES[chain], epoch.struct_hash)
        signatures = tuple(sign(key(name), message) for name in signers)
        change = slashing.SlashFalseEpoch(raw(actor), chain, epoch, signatures)
        arguments = (chain, as_abi(epoch), list(map(compact, signatures)))
        self.both(change, self.set.slash_false_epoch, *arguments, sender=actor)

    @invariant()
    def states_are_the_same(self) -> None:
        if not hasattr(self, "pure"):
            return
        stakes = self.pure.stakes
        for name in ACTORS:
            staker = stakes.stakers.get(raw(name))
            assert tuple(self.set.validator(account(name))) == (
                as_abi(staker) if staker else (checksum(Address(bytes(20))), 0, 0, 0, 0, 0, False)
            )
            for chain in OUTBOXES:
                partition = stakes.partitions.get((raw(name), chain), stake.Partition())
                assert tuple(self.set.partition(account(name), chain)) == as_abi(partition)
        assert sorted(self.set.seats()) == sorted(checksum(seated) for seated in stakes.seated)

    @invariant()
    def nobody_gets_more_than_was_put_in(self) -> None:
        if not hasattr(self, "pure"):
            return
        stakers = self.pure.stakes.stakers
        held = sum(staker.stake for staker in stakers.values())
        assert self.token.balanceOf(self.set.address) == held
        burnt = self.token.balanceOf("0x000000000000000000000000000000000000dEaD")
        owned = sum(self.token.balanceOf(account(name)) for name in ACTORS)
        fillers = [30 + number // 2 for number in range(FILLERS)]
        assert owned + held + burnt == len(ACTORS) * FUNDS + sum(fillers)
        # they signed nothing, so they lost nothing
        assert [stakers[raw(f"filler {number}")].stake for number in range(FILLERS)] == fillers
        for staker in stakers.values():
            assert staker.exit_at or staker.allocated <= staker.stake
            assert staker.pending <= staker.stake


def told(log: Any) -> tuple[str, dict[str, Any]] | None:
    """An event of the contract by its name, with what `protocol` says of it; ``None`` for other contracts' events."""
    name = type(log).__name__
    kinds = {**vars(stake), **vars(slashing)}
    if name not in kinds:
        return None
    if name == "SetPublished":
        return name, {field: getattr(log, field) for field in ("number", "root", "total", "valid_until")} | {
            "members": tuple(log.members)
        }
    return name, {field: getattr(log, field) for field in kinds[name].__struct_fields__}


def shown(event: Any) -> tuple[str, dict[str, Any]]:
    """An event of `protocol`, as the contract tells it."""
    if isinstance(event, stake.SetPublished):
        published: ValidatorSet = event.validators
        return "SetPublished", asdict(published.succession) | {"members": published.packed}
    return type(event).__name__, dict(zip(event.__struct_fields__, as_abi(event), strict=True))


@pytest.fixture(scope="module", autouse=True)
def _base(_search_paths: None) -> Iterator[None]:
    with boa.env.anchor():  # made once: it takes as long as ten runs
        AgainstThePureMachine.base = AgainstThePureMachine.make_base()
        yield


TestAgainstThePureMachine = AgainstThePureMachine.TestCase
TestAgainstThePureMachine.settings = settings(
    max_examples=settings.default.max_examples // 4, stateful_step_count=30, deadline=None
)
