"""Stakes, numbered sets, and the quorum that they make."""

from functools import cache
from typing import Any

import boa
import pytest
from coincurve.utils import GROUP_ORDER_INT
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.conftest import (
    ONE,
    QUORUM,
    THREE,
    TWO,
    VALIDITY,
    WEIGHTS,
    Validators,
    account,
    key,
    raw,
    reverts,
    validator_set,
)
from tristrata.protocol.attestation import QuorumRefused, check_quorum
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.signing import compact, sign
from tristrata.protocol.units import Timestamp

DIGEST = keccak(b"anything")
ZERO_ADDRESS = "0x" + "00" * 20


def signatures_of(*names: str) -> list[tuple[bytes, bytes]]:
    return [compact(sign(key(name), DIGEST)) for name in names]


def malformed(good: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Signatures that are none: s above half the order, with either flag, and zeros."""
    r, above = good[0], GROUP_ORDER_INT // 2 + 1
    return [(r, word(above)), (r, word(1 << 255 | above)), (r, bytes(32)), (bytes(32), good[1]), (bytes(32), bytes(32))]


def in_order(*names: str) -> list[str]:
    return sorted(names, key=raw)


def test_stake_token__anew__is_what_it_says_and_its_deployer_mints(validators: Validators) -> None:
    token = validators.token

    assert (token.name(), token.symbol(), token.decimals()) == ("Tristrata Stake", "TRIS", 18)
    assert token.is_minter(validators.owner)
    assert token.owner() == validators.owner
    token.mint(account("holder"), 5, sender=validators.owner)
    assert token.totalSupply() == token.balanceOf(account("holder")) == 5
    with pytest.raises(boa.BoaError):
        token.mint(account("holder"), 5, sender=account("holder"))


def test_stake_token__permit__lets_the_set_pull(validators: Validators) -> None:
    token, holder = validators.token, account("holder")
    token.mint(holder, 100, sender=validators.owner)
    domain = {"name": "Tristrata Stake", "version": "1", "chainId": 1, "verifyingContract": token.address}
    fields = [("owner", "address"), ("spender", "address"), ("value", "uint256"), ("nonce", "uint256")]
    types = {"Permit": [{"name": name, "type": kind} for name, kind in [*fields, ("deadline", "uint256")]]}
    deadline = boa.env.timestamp + 10
    message = {"owner": holder, "spender": validators.set.address, "value": 50, "nonce": 0, "deadline": deadline}
    signed = Account.sign_message(encode_typed_data(domain, types, message), key("holder").secret)

    token.permit(
        holder,
        validators.set.address,
        50,
        deadline,
        signed.v,
        signed.r.to_bytes(32, "big"),
        signed.s.to_bytes(32, "big"),
    )
    validators.set.register(account(ONE), 50, sender=holder)

    assert token.balanceOf(validators.set.address) == 50


def test_publish__all_with_a_seat__is_the_set_that_protocol_makes(published: Validators) -> None:
    [event] = [log for log in published.set.get_logs() if type(log).__name__ == "SetPublished"]
    until = boa.env.timestamp + VALIDITY
    expected = validator_set(1, WEIGHTS, until)

    current = published.set.current()

    assert tuple(current) == (1, expected.root, expected.total, until)
    assert (event.number, event.root, event.total, event.valid_until) == (1, expected.root, 100, until)
    assert tuple(event.members) == expected.packed
    assert {name: published.set.member_weight(1, account(name)) for name in WEIGHTS} == WEIGHTS


def test_publish__other_than_exactly_all_with_a_seat_in_order__is_refused(published: Validators) -> None:
    one, two, three = in_order(ONE, TWO, THREE)

    def publish(*names: str) -> None:
        published.set.publish([account(name) for name in names])

    with reverts("ValidatorSet", "NotAllSeated", 2, 3):
        publish(one, two)
    with reverts("ValidatorSet", "MembersUnsorted", account(two).lower()):
        publish(one, three, two)
    with reverts("ValidatorSet", "MembersUnsorted", account(one).lower()):
        publish(one, one, two)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        publish(one, two, "stranger")
    with reverts("ValidatorSet", "NotValidator", ZERO_ADDRESS):
        published.set.publish([ZERO_ADDRESS, account(one), account(two)])


def test_publish__when_nobody_has_a_seat__is_refused(validators: Validators) -> None:
    with reverts("ValidatorSet", "SetEmpty", 1):
        validators.publish()


def test_require_quorum__two_thirds_in_order__gives_the_set(published: Validators) -> None:
    given_set = published.set.require_quorum(DIGEST, signatures_of(*in_order(*QUORUM)))

    assert tuple(given_set) == tuple(published.set.current())


def test_require_quorum__exactly_two_thirds__is_enough(validators: Validators) -> None:
    for name in (ONE, TWO, THREE):
        validators.register(name, 20)
    validators.activate()
    validators.publish(ONE, TWO, THREE)

    validators.set.require_quorum(DIGEST, signatures_of(*in_order(ONE, TWO)))
    with reverts("ValidatorSet", "NoQuorum", 20, 60):
        validators.set.require_quorum(DIGEST, signatures_of(ONE))


def test_require_quorum__below_two_thirds_duplicate_or_unsorted__is_refused(published: Validators) -> None:
    first, second = in_order(*QUORUM)

    with reverts("ValidatorSet", "NoQuorum", 65, 100):
        published.set.require_quorum(DIGEST, signatures_of(*in_order(ONE, THREE)))
    with reverts("ValidatorSet", "NoQuorum", 0, 100):
        published.set.require_quorum(DIGEST, [])
    with reverts("ValidatorSet", "SignersUnsorted", account(ONE).lower()):
        published.set.require_quorum(DIGEST, signatures_of(ONE, ONE))
    with reverts("ValidatorSet", "SignersUnsorted", account(first).lower()):
        published.set.require_quorum(DIGEST, signatures_of(second, first))
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.require_quorum(DIGEST, signatures_of("stranger"))


def test_require_quorum__malformed_or_malleable_signature__is_refused_with_its_place(published: Validators) -> None:
    [good, other] = signatures_of(*in_order(*QUORUM))
    for bad in malformed(other):
        with reverts("ValidatorSet", "SignatureInvalid", 1):
            published.set.require_quorum(DIGEST, [good, bad])


def test_require_quorum__over_something_else__recovers_a_stranger(published: Validators) -> None:
    with reverts("ValidatorSet", "NotValidator"):
        published.set.require_quorum(keccak(b"something else"), signatures_of(*in_order(*QUORUM)))


def test_require_quorum__no_set_or_an_expired_one__is_refused(validators: Validators) -> None:
    with reverts("ValidatorSet", "SetExpired", 0, boa.env.timestamp):
        validators.set.require_quorum(DIGEST, [])
    validators.register(ONE, 40)
    validators.activate()
    now = boa.env.timestamp
    validators.publish(ONE)
    boa.env.time_travel(VALIDITY)
    validators.set.require_quorum(DIGEST, signatures_of(ONE))
    boa.env.time_travel(1)
    with reverts("ValidatorSet", "SetExpired", now + VALIDITY, now + VALIDITY + 1):
        validators.set.require_quorum(DIGEST, signatures_of(ONE))


QUORUM_ALONE = """
from shared import quorum

initializes: quorum
exports: quorum.current

@external
def adopt(number: uint64, valid_until: uint64, members: DynArray[uint256, 32]):
    quorum._adopt(number, valid_until, members)

@external
@view
def check(digest: bytes32, signatures: DynArray[quorum.Signature, 32]):
    quorum._require_quorum(digest, signatures)
"""


@cache
def quorum_alone() -> Any:
    return boa.loads_partial(QUORUM_ALONE)


@given(
    weights=st.lists(st.one_of(st.integers(1, 9), st.integers(1, 2**96 - 1)), min_size=1, max_size=6),
    signers=st.lists(st.integers(0, 6), max_size=7),
    in_sequence=st.booleans(),
)
def test_quorum__any_set_and_signers__agrees_with_protocol(
    weights: list[int], signers: list[int], in_sequence: bool
) -> None:
    names = in_order(*(f"signer {number}" for number in range(7)))
    expected = validator_set(1, dict(zip(names, weights, strict=False)))
    ordered = sorted(set(signers)) if in_sequence else signers
    signatures = [sign(key(names[number]), DIGEST) for number in ordered]
    with boa.env.anchor():
        quorum = quorum_alone().deploy()
        quorum.adopt(1, expected.valid_until, list(expected.packed))

        assert tuple(quorum.current()) == (1, expected.root, expected.total, expected.valid_until)
        try:
            check_quorum(expected, DIGEST, signatures, Timestamp(boa.env.timestamp))
        except QuorumRefused as error:
            with reverts("ValidatorSet", type(error).__name__):
                quorum.check(DIGEST, [compact(signature) for signature in signatures])
        else:
            quorum.check(DIGEST, [compact(signature) for signature in signatures])
