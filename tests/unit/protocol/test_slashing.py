"""Evidence: what it costs whom, and when it costs nothing."""

import pytest
from msgspec.structs import replace

from tests.unit.protocol.test_attestation import KEYS, SIGNERS, STRANGER
from tests.unit.protocol.test_stake import ACTIVE, HUB, NOW, OTHER, RULES, after, who
from tristrata.protocol import stake
from tristrata.protocol.attestation import Checkpoint, Epoch
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ChainRef
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.slashing import (
    Convict,
    Penalties,
    ProveFalse,
    SetPenalties,
    SlashChange,
    SlashConviction,
    Slashed,
    SlashEquivocation,
    SlashEvent,
    SlashFalseEpoch,
    Slashing,
    apply,
)
from tristrata.protocol.stake import (
    Allocate,
    ExitRequested,
    PartitionChanged,
    Register,
    RequestExit,
    SetSigner,
    SetSlashable,
    StakeChanged,
    StakeRefused,
    Withdraw,
)
from tristrata.protocol.units import Amount, BasisPoints, Timestamp

LEDGER, OUTBOX = b"\x1e" * 32, b"\x0b" * 32
ROOT_CHAIN, PRIVATE = ChainRef(keccak(b"root chain")), ChainRef(keccak(b"private chain"))
ORPHAN = ChainRef(keccak(b"chain below one without outbox"))
PARENTS = {HUB: ROOT_CHAIN, OTHER: ROOT_CHAIN, PRIVATE: HUB, ORPHAN: OTHER}
REPORTER = Address(b"\x99" * 20)
FALSE, TRUE = (Checkpoint(HUB, 5, keccak(root)) for root in (b"false", b"true"))
EPOCH, OTHER_EPOCH = (Epoch(5, 10, b"\x01" * 32, b"\x02" * 32, content * 32) for content in (b"\x03", b"\x04"))
PENALTIES = Penalties(BasisPoints(5_000), BasisPoints(1_000))
EXIT = Timestamp(NOW + RULES.unbonding)


def signed(index: int, statement: Checkpoint | Epoch, separator: bytes | None = None) -> bytes:
    domain = separator or (LEDGER if isinstance(statement, Checkpoint) else OUTBOX)
    return sign(KEYS[index] if index < len(KEYS) else STRANGER, digest(domain, statement.struct_hash))


def equivocation(
    index: int, epoch: int = 5, chain: ChainRef = HUB, separators: tuple[bytes, bytes] = (LEDGER, LEDGER)
) -> SlashEquivocation:
    first, second = (
        signed(index, Checkpoint(chain, epoch, checkpoint.root), separator)
        for checkpoint, separator in zip((FALSE, TRUE), separators, strict=True)
    )
    return SlashEquivocation(REPORTER, chain, epoch, (FALSE.root, TRUE.root), (first, second))


def contradiction(first: bytes, second: bytes) -> SlashEquivocation:
    """These two signatures, brought as evidence of `FALSE` and `TRUE`."""
    return SlashEquivocation(REPORTER, HUB, 5, (FALSE.root, TRUE.root), (first, second))


def conviction(*indices: int, statement: Checkpoint = FALSE) -> SlashConviction:
    return SlashConviction(REPORTER, HUB, 5, tuple(signed(index, statement) for index in indices))


def false_epoch(*indices: int) -> SlashFalseEpoch:
    return SlashFalseEpoch(REPORTER, HUB, EPOCH, tuple(signed(index, EPOCH) for index in indices))


PROVEN = ProveFalse(HUB, EPOCH.struct_hash)


def court(*changes: SlashChange, now: Timestamp = NOW) -> tuple[Slashing, list[SlashEvent]]:
    """Three validators with 41 each, of which 20 answer for the hub; what ``changes`` make of it."""
    registered = (Register(who(index), SIGNERS[index], Amount(41)) for index in range(3))
    allocated = (Allocate(who(index), HUB, Amount(20)) for index in range(3))
    stakes, _ = after(*registered, SetSlashable(HUB, True), *allocated)
    state, events = Slashing(stakes, PENALTIES, ROOT_CHAIN, LEDGER, PARENTS, {HUB: OUTBOX}), list[SlashEvent]()
    for change in changes:
        state, events = apply(state, change, now)
    return state, events


def test_equivocation__two_roots__costs_half_rounded_up_and_makes_leave() -> None:
    _, events = court(equivocation(0))

    assert events == [
        Slashed(who(0), HUB, 5, Amount(21), REPORTER, Amount(2)),
        StakeChanged(who(0), Amount(20), Amount(20), ACTIVE),
        ExitRequested(who(0), EXIT),
    ]


def test_equivocation__two_right_epochs_of_one_number__cost_nothing() -> None:
    state, _ = court(PROVEN)

    for change in (
        contradiction(signed(0, EPOCH), signed(0, OTHER_EPOCH)),
        SlashFalseEpoch(REPORTER, HUB, OTHER_EPOCH, (signed(0, OTHER_EPOCH),)),
    ):
        with pytest.raises(StakeRefused):
            apply(state, change, NOW)


def test_equivocation__of_a_grandchild__is_signed_for_its_parents_outbox() -> None:
    _, events = court(equivocation(0, chain=PRIVATE, separators=(OUTBOX, OUTBOX)))

    assert events[0] == Slashed(who(0), PRIVATE, 5, Amount(21), REPORTER, Amount(2))


@pytest.mark.parametrize(("chain", "wrong", "right"), [(HUB, OUTBOX, LEDGER), (PRIVATE, LEDGER, OUTBOX)])
def test_equivocation__signed_for_another_layer__does_not_count(chain: ChainRef, wrong: bytes, right: bytes) -> None:
    for separators in ((wrong, wrong), (right, wrong), (wrong, right)):
        with pytest.raises(StakeRefused) as caught:
            court(equivocation(0, chain=chain, separators=separators))
        assert caught.value.error == "NotValidator"


def test_conviction__of_a_grandchild__is_signed_for_the_ledger() -> None:
    lie = Checkpoint(PRIVATE, 5, FALSE.root)
    state = in_stakes(court(Convict(lie))[0], SetSlashable(PRIVATE, True), Allocate(who(0), PRIVATE, Amount(5)))

    _, events = apply(state, SlashConviction(REPORTER, PRIVATE, 5, (signed(0, lie),)), NOW)

    assert events[1] == Slashed(who(0), PRIVATE, 5, Amount(5), REPORTER, Amount(0))
    with pytest.raises(StakeRefused) as caught:
        apply(state, SlashConviction(REPORTER, PRIVATE, 5, (signed(0, lie, OUTBOX),)), NOW)
    assert caught.value.error == "NotValidator"


def test_conviction__signers_of_the_false_root__lose_their_partition_and_nobody_else_does() -> None:
    state, events = court(Convict(FALSE), conviction(0, 2))

    assert events[:4] == [
        PartitionChanged(who(0), HUB, Amount(0), Amount(0), Timestamp(0)),
        Slashed(who(0), HUB, 5, Amount(20), REPORTER, Amount(2)),
        StakeChanged(who(0), Amount(21), Amount(21), ACTIVE),
        ExitRequested(who(0), EXIT),
    ]
    assert [state.stakes.stakers[who(index)].stake for index in range(3)] == [21, 41, 21]


def test_false_epoch__proven_by_its_hub__costs_the_partition() -> None:
    state, _ = court(PROVEN, false_epoch(1))

    assert [state.stakes.stakers[who(index)].stake for index in range(3)] == [41, 21, 41]


def test_conviction__after_equivocations__takes_what_is_left() -> None:
    state, _ = court(Convict(FALSE), equivocation(0), equivocation(0, epoch=6), conviction(0))

    assert state.stakes.stakers[who(0)].stake == 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (SlashEquivocation(REPORTER, HUB, 5, (FALSE.root,) * 2, (signed(0, FALSE),) * 2), "SameStatement"),
        (contradiction(signed(0, FALSE), signed(0, Checkpoint(HUB, 6, TRUE.root))), "NotValidator"),
        (contradiction(signed(0, FALSE), signed(1, TRUE)), "SignersDiffer"),
        (contradiction(signed(0, FALSE), b""), "SignatureInvalid"),
        (contradiction(signed(9, FALSE), signed(9, TRUE)), "NotValidator"),
        (equivocation(0, chain=ROOT_CHAIN), "ChainUnknown"),
        (equivocation(0, chain=ORPHAN), "NoOutbox"),
        (equivocation(1), "AlreadySlashed"),
        (SlashConviction(REPORTER, HUB, 6, (signed(0, FALSE),)), "NotConvicted"),
        (conviction(0, statement=TRUE), "NotValidator"),
        (conviction(2), "NothingToSlash"),
        (conviction(), "NothingToSlash"),
        (SlashFalseEpoch(REPORTER, HUB, OTHER_EPOCH, (signed(0, OTHER_EPOCH),)), "NotProvenFalse"),
    ],
)
def test_apply__evidence_that_proves_nothing__is_refused(change: SlashChange, error: str) -> None:
    state, _ = court(Convict(FALSE), PROVEN, equivocation(1), conviction(2))

    with pytest.raises(StakeRefused) as caught:
        apply(state, change, NOW)
    assert caught.value.error == error


def in_stakes(state: Slashing, *changes: stake.StakeChange, now: Timestamp = NOW) -> Slashing:
    stakes, _ = after(*changes, state=state.stakes, now=now)
    return replace(state, stakes=stakes)


def test_conviction__of_before_the_partition__costs_nothing() -> None:
    state, _ = court(Convict(Checkpoint(HUB, 5, FALSE.root)), now=Timestamp(NOW - 1))

    with pytest.raises(StakeRefused, match="anything at stake"):
        apply(state, conviction(0), NOW)


def test_conviction__chain_not_slashable__is_refused() -> None:
    state = in_stakes(court(Convict(FALSE))[0], SetSlashable(HUB, False))

    with pytest.raises(StakeRefused, match="nothing can be lost"):
        apply(state, conviction(0), NOW)


def test_equivocation__with_an_old_key_or_while_leaving__still_costs() -> None:
    state = in_stakes(court()[0], SetSigner(who(0), Address(b"\x77" * 20)), RequestExit(who(0)))

    state, events = apply(state, equivocation(0), Timestamp(EXIT - 1))

    assert not any(isinstance(event, ExitRequested) for event in events)
    assert state.stakes.stakers[who(0)].stake == 20
    state = in_stakes(state, Withdraw(who(0)), now=EXIT)
    with pytest.raises(StakeRefused, match="nothing is left"):
        apply(state, equivocation(0, epoch=6), EXIT)


def test_prove_false__again__keeps_the_first_time() -> None:
    state, _ = court(PROVEN)

    state, _ = apply(state, PROVEN, Timestamp(NOW + 9))

    assert list(state.false_since.values()) == [NOW]


def test_penalties__changed__count_from_then_on() -> None:
    _, events = court(SetPenalties(Penalties(BasisPoints(10_000), BasisPoints(5_000))), equivocation(0))

    assert events[0] == Slashed(who(0), HUB, 5, Amount(41), REPORTER, Amount(20))


@pytest.mark.parametrize(("equivocation", "reward"), [(0, 0), (10_001, 0), (1, 5_001)])
def test_penalties__out_of_range__are_refused(equivocation: int, reward: int) -> None:
    with pytest.raises(StakeRefused, match="bps"):
        Penalties(BasisPoints(equivocation), BasisPoints(reward))
