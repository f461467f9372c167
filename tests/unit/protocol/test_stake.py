"""Stake: how it comes, waits, takes seats, answers for chains and goes, and what nobody can do with it."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tristrata.protocol.attestation import MAX_VALIDATORS
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ZERO_ADDRESS, Address, ChainRef
from tristrata.protocol.stake import (
    AddStake,
    Allocate,
    Deallocate,
    ExitRequested,
    PartitionChanged,
    Publish,
    Register,
    Release,
    RequestExit,
    SeatTaken,
    SetPublished,
    SetSigner,
    SetSlashable,
    StakeChange,
    StakeChanged,
    StakeEvent,
    StakeRefused,
    StakeRules,
    Stakes,
    ValidatorRegistered,
    Withdraw,
    apply,
    next_signers,
)
from tristrata.protocol.units import Amount, Seconds, Timestamp

RULES = StakeRules(Amount(20), validity=Seconds(1_000), activation=Seconds(300), unbonding=Seconds(5_000))
NOW = Timestamp(1_800_000_000)
ACTIVE = Timestamp(NOW + 300)
HUB, OTHER = ChainRef(keccak(b"hub")), ChainRef(keccak(b"other"))


def who(number: int) -> Address:
    return Address(keccak(b"account %d" % number)[12:])


def key(number: int) -> Address:
    return Address(keccak(b"key %d" % number)[12:])


def register(number: int, amount: int = 50) -> Register:
    return Register(who(number), key(number), Amount(amount))


def allocate(number: int, amount: int, chain: ChainRef = HUB) -> Allocate:
    return Allocate(who(number), chain, Amount(amount))


def after(*changes: StakeChange, state: Stakes | None = None, now: Timestamp = NOW) -> tuple[Stakes, list[StakeEvent]]:
    found, events = state or Stakes(RULES), list[StakeEvent]()
    for change in changes:
        found, events = apply(found, change, now)
    return found, events


def publish(state: Stakes, now: Timestamp = ACTIVE) -> tuple[Stakes, list[StakeEvent]]:
    return apply(state, Publish(next_signers(state.stakers, now)), now)


def full(*stakes: int) -> Stakes:
    """32 that have a seat each: with these stakes, then with 100."""
    amounts = [*stakes, *[100] * (MAX_VALIDATORS - len(stakes))]
    state, _ = after(*(register(number, amount) for number, amount in enumerate(amounts)))
    return publish(state)[0]


def test_register__with_a_stake__waits_for_the_activation() -> None:
    state, events = after(register(1))

    assert events == [ValidatorRegistered(who(1), key(1)), StakeChanged(who(1), Amount(50), Amount(50), ACTIVE)]
    assert (state.stakers[who(1)].weight(NOW), state.stakers[who(1)].weight(ACTIVE)) == (0, 50)
    assert (next_signers(state.stakers, NOW), next_signers(state.stakers, ACTIVE)) == ((), (key(1),))


def test_add_stake__twice__starts_the_wait_anew() -> None:
    state, _ = after(register(1))
    state, _ = apply(state, AddStake(who(1), Amount(5)), ACTIVE)
    later = Timestamp(ACTIVE + 299)
    state, _ = apply(state, AddStake(who(1), Amount(7)), later)

    weights = [state.stakers[who(1)].weight(Timestamp(later + wait)) for wait in (1, 299, 300)]
    assert weights == [50, 50, 62]


def test_publish__full__the_smallest_goes_and_leaves() -> None:
    state, _ = after(register(40, 51), state=full(60, 50))

    state, events = publish(state)

    exit_at = Timestamp(ACTIVE + 5_000)
    assert events[:2] == [ExitRequested(who(1), exit_at), SeatTaken(who(40), who(1))]
    published = events[2]
    assert isinstance(published, SetPublished)
    assert (published.validators.number, published.validators.total) == (2, 60 + 51 + 30 * 100)
    state, _ = apply(state, Withdraw(who(1)), exit_at)
    assert state.stakers[who(1)].stake == 0


def test_next_signers__as_small_as_the_smallest__stays_outside() -> None:
    state, _ = after(register(40, 50), register(41, 70), register(42, 69), state=full(60, 50, 69))

    assert set(next_signers(state.stakers, ACTIVE)) == {key(number) for number in range(32)} - {key(0), key(1)} | {
        key(41),
        key(42),
    }


@pytest.mark.parametrize(
    ("now", "change", "error"),
    [
        (NOW, register(1), "AlreadyValidator"),
        (NOW, register(9, 19), "StakeTooLow"),
        (NOW, Register(who(9), key(1), Amount(20)), "SignerTaken"),
        (NOW, Register(who(9), ZERO_ADDRESS, Amount(20)), "SignerTaken"),
        (NOW, AddStake(who(1), Amount(0)), "ZeroAmount"),
        (NOW, AddStake(who(9), Amount(1)), "NotValidator"),
        (NOW, AddStake(who(3), Amount(1)), "AlreadyLeaving"),
        (NOW, SetSigner(who(1), key(2)), "SignerTaken"),
        (NOW, SetSigner(who(2), key(11)), "SignerTaken"),
        (NOW, allocate(1, 0), "ZeroAmount"),
        (NOW, allocate(1, 31), "AboveFreeStake"),
        (NOW, allocate(1, 1, OTHER), "NotSlashable"),
        (NOW, allocate(3, 1), "AlreadyLeaving"),
        (NOW, Deallocate(who(1), HUB, Amount(21)), "AbovePartition"),
        (NOW, Deallocate(who(1), HUB, Amount(0)), "ZeroAmount"),
        (NOW, Release(who(1), HUB), "ReleaseTooEarly"),
        (NOW, RequestExit(who(3)), "AlreadyLeaving"),
        (NOW, Withdraw(who(1)), "ExitTooEarly"),
        (Timestamp(NOW + 4_999), Withdraw(who(3)), "ExitTooEarly"),
        (NOW, Withdraw(who(9)), "NotValidator"),
        (NOW, Withdraw(who(4)), "NothingAtStake"),
        (NOW, Publish(()), "SetEmpty"),
        (NOW, Publish((key(2),)), "NotActiveYet"),
        (ACTIVE, Publish((key(9),)), "NotValidator"),
        (ACTIVE, Publish((key(1),)), "NotValidator"),
        (ACTIVE, Publish((key(3),)), "NotValidator"),
        (ACTIVE, Publish((key(2), key(2))), "NotAllSeated"),
        (ACTIVE, Publish(tuple(sorted((key(2), key(11)), reverse=True))), "MembersUnsorted"),
    ],
)
def test_apply__breaks_a_rule__is_refused(now: Timestamp, change: StakeChange, error: str) -> None:
    long_ago = Timestamp(NOW - 5_000)
    state, _ = after(register(4), RequestExit(who(4)), now=long_ago)
    changes = (register(1), register(2), register(3), RequestExit(who(3)), SetSigner(who(1), key(11)))
    state, _ = after(Withdraw(who(4)), *changes, SetSlashable(HUB, True), allocate(1, 20), state=state)

    with pytest.raises(StakeRefused) as caught:
        apply(state, change, now)
    assert caught.value.error == error


def test_rules__that_secure_nothing__are_refused() -> None:
    with pytest.raises(StakeRefused, match="more than zero"):
        StakeRules(Amount(0), Seconds(1), Seconds(1), Seconds(2))
    with pytest.raises(StakeRefused, match="more than the sets' validity"):
        StakeRules(Amount(1), Seconds(2), Seconds(1), Seconds(2))


def test_deallocate__then_release__frees_after_the_unbonding() -> None:
    state, _ = after(register(1), SetSlashable(HUB, True), allocate(1, 30))
    state, events = apply(state, Deallocate(who(1), HUB, Amount(10)), ACTIVE)
    free_at = Timestamp(ACTIVE + 5_000)
    assert events == [PartitionChanged(who(1), HUB, Amount(30), Amount(10), free_at)]

    with pytest.raises(StakeRefused):
        apply(state, Release(who(1), HUB), Timestamp(free_at - 1))
    state, events = apply(state, Release(who(1), HUB), free_at)

    assert events == [PartitionChanged(who(1), HUB, Amount(20), Amount(0), Timestamp(0))]
    assert (state.stakers[who(1)].allocated, state.partitions[who(1), HUB].since) == (20, NOW)


def test_set_slashable__no_more__refuses_new_parts() -> None:
    state, _ = after(register(1), SetSlashable(HUB, True), SetSlashable(HUB, False))

    with pytest.raises(StakeRefused, match="nothing can be lost"):
        apply(state, allocate(1, 1), NOW)


class AnyStakes(RuleBasedStateMachine):
    """Any changes by 40 accounts: who leaves gets what it put in, and no change of seats makes a set weigh less."""

    @initialize()
    def start(self) -> None:
        self.state, _ = after(SetSlashable(HUB, True))
        self.now = NOW
        self.put_in: dict[Address, int] = {}
        self.got: dict[Address, int] = {}

    def change(self, change: StakeChange) -> bool:
        before = self.state
        try:
            self.state, _ = apply(before, change, self.now)
        except StakeRefused:
            assert self.state is before
            return False
        return True

    @rule(seconds=st.sampled_from([1, 300, 1_000, 5_000]))
    def wait(self, seconds: int) -> None:
        self.now = Timestamp(self.now + seconds)

    @rule(first=st.integers(0, 39), count=st.integers(1, 40), amount=st.integers(19, 200))
    def register(self, first: int, count: int, amount: int) -> None:
        for number in range(first, min(40, first + count)):
            if self.change(register(number, amount + number)):
                self.put_in[who(number)] = amount + number

    @rule(number=st.integers(0, 39), amount=st.integers(0, 50))
    def add_stake(self, number: int, amount: int) -> None:
        if self.change(AddStake(who(number), Amount(amount))):
            self.put_in[who(number)] += amount

    @rule(number=st.integers(0, 39), other=st.integers(30, 49))
    def set_signer(self, number: int, other: int) -> None:
        self.change(SetSigner(who(number), key(other)))

    @rule(number=st.integers(0, 39), amount=st.integers(0, 100))
    def allocate(self, number: int, amount: int) -> None:
        self.change(allocate(number, amount))

    @rule(number=st.integers(0, 39), amount=st.integers(0, 100))
    def deallocate(self, number: int, amount: int) -> None:
        self.change(Deallocate(who(number), HUB, Amount(amount)))

    @rule(number=st.integers(0, 39))
    def release(self, number: int) -> None:
        self.change(Release(who(number), HUB))

    @rule(number=st.integers(0, 39))
    def request_exit(self, number: int) -> None:
        self.change(RequestExit(who(number)))

    @rule(first=st.integers(0, 39), count=st.integers(1, 40))
    def withdraw(self, first: int, count: int) -> None:
        for number in range(first, min(40, first + count)):
            account = who(number)
            staker = self.state.stakers.get(account)
            if self.change(Withdraw(account)):
                assert staker is not None
                assert staker.exit_at <= self.now
                self.got[account] = self.got.get(account, 0) + staker.stake

    @rule()
    def publish(self) -> None:
        signers = next_signers(self.state.stakers, self.now)
        before = sum(staker.weight(self.now) for staker in self.state.stakers.values() if staker.seated)
        assert self.change(Publish(signers)) == bool(signers)
        if signers:
            assert self.state.published is not None
            assert self.state.published.total >= before
            assert tuple(member.signer for member in self.state.published.members) == signers

    @invariant()
    def nothing_is_lost_or_made(self) -> None:
        if not hasattr(self, "state"):
            return
        stakers = self.state.stakers
        assert {account: staker.stake + self.got.get(account, 0) for account, staker in stakers.items()} == self.put_in
        assert len(self.state.seated) <= MAX_VALIDATORS
        for account, staker in stakers.items():
            assert self.state.account_of[staker.signer] == account
            assert staker.pending <= staker.stake
            partition = self.state.partitions.get((account, HUB))
            assert staker.allocated == (partition.amount if partition else 0)
            assert staker.allocated <= staker.stake or staker.exit_at
            assert not (staker.seated and staker.exit_at)


TestAnyStakes = AnyStakes.TestCase
