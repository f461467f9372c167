"""The outbox's validator set: what L1 says, what the set says of its own succession, and whose word counts more."""

from typing import Any

import boa
import pytest
from coincurve.utils import GROUP_ORDER_INT

from tests.contracts.conftest import (
    MAX_VALIDITY,
    ONE,
    QUORUM,
    THREE,
    TWO,
    WEIGHTS,
    Hub,
    account,
    raw,
    reverts,
    sign_all,
    validator_set,
)
from tests.contracts.money import events
from tristrata.protocol.attestation import ValidatorSet
from tristrata.protocol.hashing import keccak

HEIRS = {"heir one": 50, "heir two": 50}


def advance(hub: Hub, following: ValidatorSet, signers: tuple[str, ...] = QUORUM, **changes: Any) -> None:
    signatures = sign_all(hub.domain(hub.outbox), following.succession, signers)
    fields = {"number": following.number, "valid_until": following.valid_until, "members": list(following.packed)}
    hub.outbox.advance(*{**fields, **changes}.values(), signatures, sender=account("anyone"))


# what L1 says


def test_set_from_l1__by_the_inbox__is_the_current_set(hub: Hub) -> None:
    assert tuple(hub.outbox.current()) == (0, bytes(32), 0, 0)

    adopted = hub.adopt(validator_set(7))

    [event] = events(hub.outbox, "SetAdopted")
    assert tuple(hub.outbox.current()) == (7, adopted.root, 100, adopted.valid_until)
    assert (event.number, event.root, event.total, event.valid_until) == (7, adopted.root, 100, adopted.valid_until)
    assert tuple(event.members) == adopted.packed
    assert {name: hub.outbox.member_weight(7, account(name)) for name in WEIGHTS} == WEIGHTS
    assert hub.outbox.member_weight(6, account(ONE)) == 0


def test_set_from_l1__by_another_or_not_newer__is_refused(hub: Hub) -> None:
    members = list(validator_set().packed)

    with reverts("Outbox", "NotInbox", account("stranger").lower()):
        hub.outbox.set_from_l1(1, 2**63, members, sender=account("stranger"))
    hub.adopt(validator_set(7))
    for number in (7, 6, 0):
        with reverts("Outbox", "SetNotNewer", number, 7):
            hub.outbox.set_from_l1(number, 2**63, members, sender=hub.operator)


def test_set_from_l1__malformed_or_expired__is_refused(hub: Hub) -> None:
    members, now = list(validator_set().packed), boa.env.timestamp
    first = members[0] >> 96

    def deliver(words: list[int], until: int = now) -> None:
        hub.outbox.set_from_l1(1, until, words, sender=hub.operator)

    with reverts("Outbox", "SetExpired", now - 1, now):
        deliver(members, now - 1)
    with reverts("Outbox", "SetEmpty", 1):
        deliver([])
    with reverts("Outbox", "MembersUnsorted", f"0x{members[1] >> 96:040x}"):
        deliver([members[0], members[2], members[1]])
    with reverts("Outbox", "MembersUnsorted", f"0x{first:040x}"):
        deliver([members[0], members[0]])
    with reverts("Outbox", "MembersUnsorted", f"0x{first:040x}"):
        deliver([first << 96 | 1, first << 96 | 2])  # ascending words, but one signer
    with reverts("Outbox", "MembersUnsorted", "0x" + "00" * 20):
        deliver([5])
    with reverts("Outbox", "ZeroWeight", f"0x{first:040x}"):
        deliver([first << 96])
    deliver(members)


def test_set_from_l1__valid_for_too_long__is_refused(hub: Hub) -> None:
    now = boa.env.timestamp

    for until in (now + MAX_VALIDITY + 1, 2**64 - 1):
        with reverts("Outbox", "ValidTooLong", until, now, MAX_VALIDITY):
            hub.adopt(validator_set(valid_until=until))
    hub.adopt(validator_set(valid_until=now + MAX_VALIDITY))
    with reverts("Outbox", "ValidTooLong", now + MAX_VALIDITY + 1, now, MAX_VALIDITY):
        advance(hub, validator_set(2, HEIRS, now + MAX_VALIDITY + 1))


def test_set_from_l1__32_members_of_the_highest_weight__fit(hub: Hub) -> None:
    weights = {f"member {number}": 2**96 - 1 for number in range(32)}
    adopted = hub.adopt(validator_set(weights=weights))

    assert tuple(hub.outbox.current()) == (1, adopted.root, 32 * (2**96 - 1), adopted.valid_until)
    names = sorted(weights, key=raw)
    with reverts("Outbox", "NoQuorum", 21 * (2**96 - 1), 32 * (2**96 - 1)):
        require_quorum(hub, tuple(names[:21]))
    require_quorum(hub, tuple(names[:22]))
    require_quorum(hub, tuple(names))


def test_set_from_l1__an_older_members_weight__is_forgotten(hub: Hub) -> None:
    hub.adopt(validator_set(1, {ONE: 40, TWO: 60}))
    hub.adopt(validator_set(2, {TWO: 1, THREE: 2}))

    assert [hub.outbox.member_weight(2, account(name)) for name in (ONE, TWO, THREE)] == [0, 1, 2]
    assert [hub.outbox.is_validator(account(name)) for name in (ONE, TWO, THREE)] == [False, True, True]
    with reverts("Outbox", "NoQuorum", 1, 3):
        require_quorum(hub, (TWO,))


# what the set says of its succession


def test_advance__signed_by_the_outgoing_set__hands_over(hub: Hub) -> None:
    hub.adopt()
    following = validator_set(2, HEIRS)

    advance(hub, following)

    assert tuple(hub.outbox.current()) == (2, following.root, 100, following.valid_until)
    assert [hub.outbox.member_weight(2, account(name)) for name in ("heir one", ONE)] == [HEIRS["heir one"], 0]
    with reverts("Outbox", "NotValidator"):
        advance(hub, validator_set(3), QUORUM)
    advance(hub, validator_set(9), tuple(HEIRS))


def test_is_validator__after_an_advance__is_who_signs_now_or_was_given_by_l1_while_that_is_valid(hub: Hub) -> None:
    """A captured set that hands over to one without honest members does not take their veto away."""
    given = hub.adopt()
    following = validator_set(2, HEIRS, given.valid_until + 100)

    advance(hub, following)

    assert [hub.outbox.is_validator(account(name)) for name in ("heir one", ONE, "stranger")] == [True, True, False]
    boa.env.time_travel(given.valid_until + 1 - boa.env.timestamp)
    assert [hub.outbox.is_validator(account(name)) for name in ("heir one", ONE)] == [True, False]
    hub.adopt(validator_set(3, {TWO: 1}))
    assert [hub.outbox.is_validator(account(name)) for name in ("heir one", ONE, TWO)] == [False, False, True]


def test_advance__not_what_was_signed__is_refused(hub: Hub) -> None:
    hub.adopt()
    following = validator_set(2, HEIRS)
    changes: list[dict[str, Any]] = [
        {"number": 3},
        {"valid_until": following.valid_until + 1},
        {"members": list(validator_set(2, {"heir one": 50, "heir two": 51}).packed)},
        {"members": list(validator_set(2, {"heir one": 50, "heir three": 50}).packed)},
    ]

    for change in changes:
        with reverts("Outbox", "NotValidator"):
            advance(hub, following, (ONE,), **change)
    with reverts("Outbox", "NoQuorum", 65, 100):
        advance(hub, following, (ONE, THREE))
    with reverts("Outbox", "SetNotNewer", 1, 1):
        advance(hub, validator_set(1, HEIRS))


def test_advance__without_a_valid_set__waits_for_the_inbox(hub: Hub) -> None:
    now = boa.env.timestamp
    with reverts("Outbox", "SetExpired", 0, now):
        advance(hub, validator_set(1, HEIRS))
    hub.adopt(validator_set(1, valid_until=now + 10))
    boa.env.time_travel(11)
    with reverts("Outbox", "SetExpired", now + 10, now + 11):
        advance(hub, validator_set(2, HEIRS))
    assert not hub.outbox.is_validator(account(ONE))
    hub.adopt(validator_set(2))
    assert hub.outbox.is_validator(account(ONE))


@pytest.mark.parametrize(("ahead", "is_allowed"), [(1, True), (256, True), (257, False), (2**64 - 2, False)])
def test_advance__too_far_ahead__is_refused(hub: Hub, ahead: int, is_allowed: bool) -> None:
    hub.adopt()

    if is_allowed:
        advance(hub, validator_set(1 + ahead, HEIRS))
        assert hub.outbox.current().number == 1 + ahead
    else:
        with reverts("Outbox", "SetNotNewer", 1 + ahead, 1):
            advance(hub, validator_set(1 + ahead, HEIRS))


def test_advance__by_a_captured_set_as_far_as_it_gets__l1s_word_still_wins(hub: Hub) -> None:
    hub.adopt()
    advance(hub, validator_set(257, HEIRS))
    for number in (513, 769):
        advance(hub, validator_set(number, HEIRS), tuple(HEIRS))

    for number in (0, 1):
        with reverts("Outbox", "SetNotNewer", number, 1):
            hub.adopt(validator_set(number))
    hub.adopt(validator_set(2))
    assert hub.outbox.current().number == 2
    assert [hub.outbox.is_validator(account(name)) for name in (ONE, "heir one")] == [True, False]
    with reverts("Outbox", "SetNotNewer", 770, 2):
        advance(hub, validator_set(770, HEIRS), tuple(HEIRS))
    with reverts("Outbox", "NotValidator"):
        advance(hub, validator_set(3, HEIRS), tuple(HEIRS))
    # L1 counts for itself: what a set signed in between is not above it.
    advance(hub, validator_set(200, HEIRS))
    hub.adopt(validator_set(3))
    assert hub.outbox.current().number == 3


# the quorum


def require_quorum(hub: Hub, signers: tuple[str, ...]) -> None:
    signed = validator_set(2, HEIRS).succession
    digest_of = keccak(b"\x19\x01" + hub.domain(hub.outbox).separator + signed.struct_hash)
    hub.outbox.require_quorum(digest_of, sign_all(hub.domain(hub.outbox), signed, signers))


def test_require_quorum__two_thirds_of_the_weight__is_enough(hub: Hub) -> None:
    hub.adopt(validator_set(weights={ONE: 66, TWO: 34, THREE: 1}))
    with reverts("Outbox", "NoQuorum", 67, 101):
        require_quorum(hub, (ONE, THREE))
    require_quorum(hub, (ONE, TWO))
    hub.adopt(validator_set(2, {ONE: 2, TWO: 1}))
    require_quorum(hub, (ONE,))  # exactly two thirds


def test_require_quorum__unsorted_twice_or_strangers__is_refused(hub: Hub) -> None:
    hub.adopt()
    signed = validator_set(2, HEIRS).succession
    domain = hub.domain(hub.outbox)
    first, second = sign_all(domain, signed)
    low, high = sorted(QUORUM, key=raw)
    digest_of = keccak(b"\x19\x01" + domain.separator + signed.struct_hash)

    def attempt(*signatures: tuple[bytes, bytes]) -> None:
        hub.outbox.require_quorum(digest_of, list(signatures))

    with reverts("Outbox", "NoQuorum", 0, 100):
        attempt()
    with reverts("Outbox", "SignersUnsorted", account(low).lower()):
        attempt(second, first)
    with reverts("Outbox", "SignersUnsorted", account(low).lower()):
        attempt(first, first)
    with reverts("Outbox", "SignersUnsorted", account(high).lower()):
        attempt(first, second, second)
    with reverts("Outbox", "NotValidator", account("stranger").lower()):
        require_quorum(hub, ("stranger",))
    attempt(first, second)


def test_require_quorum__malformed_signatures__are_refused(hub: Hub) -> None:
    hub.adopt()
    signed = validator_set(2, HEIRS).succession
    domain = hub.domain(hub.outbox)
    first, (r, vs) = sign_all(domain, signed)
    digest_of = keccak(b"\x19\x01" + domain.separator + signed.struct_hash)
    word = int.from_bytes(vs, "big")
    s = word & 2**255 - 1

    for malformed in (
        (r, (GROUP_ORDER_INT // 2 + 1).to_bytes(32, "big")),
        (r, (2**255 - 1).to_bytes(32, "big")),
        (r, bytes(32)),
        (bytes(32), vs),
        (GROUP_ORDER_INT.to_bytes(32, "big"), vs),
        (bytes(32), bytes(32)),
        (b"\xff" * 32, b"\xff" * 32),
    ):
        with reverts("Outbox", "SignatureInvalid", 1):
            hub.outbox.require_quorum(digest_of, [first, malformed])
    # The other s of the same point is high. Its first bit is lost to the parity, so what is left signs for nobody.
    other = GROUP_ORDER_INT - s
    for vs in (word ^ 1 << 255, other | 1 << 255, other & 2**255 - 1):
        with reverts("Outbox", "NotValidator"):
            hub.outbox.require_quorum(digest_of, [(r, vs.to_bytes(32, "big"))])


def test_require_quorum__when_the_sets_time_is_over__is_refused(hub: Hub) -> None:
    until = boa.env.timestamp + 10
    hub.adopt(validator_set(valid_until=until))
    boa.env.time_travel(10)
    require_quorum(hub, QUORUM)
    boa.env.time_travel(1)

    with reverts("Outbox", "SetExpired", until, until + 1):
        require_quorum(hub, QUORUM)
