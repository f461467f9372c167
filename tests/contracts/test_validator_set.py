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
    MIN_STAKE,
    ONE,
    QUORUM,
    THREE,
    TWO,
    UNBONDING,
    VALIDITY,
    WEIGHTS,
    Validators,
    account,
    contract,
    key,
    raw,
    reverts,
    validator_set,
)
from tests.contracts.test_sessions import GREEDY_TOKEN
from tristrata.protocol.attestation import QuorumRefused, check_quorum
from tristrata.protocol.hashing import keccak
from tristrata.protocol.signing import sign
from tristrata.protocol.units import Timestamp

DIGEST = keccak(b"anything")
ZERO_ADDRESS = "0x" + "00" * 20


def signatures_of(*names: str) -> list[bytes]:
    return [sign(key(name), DIGEST) for name in names]


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


def test_init__stake_of_zero_or_short_unbonding__is_refused() -> None:
    token = contract("security/StakeToken.vy").address

    with reverts("ValidatorSet", "ZeroAmount", 0):
        contract("security/ValidatorSet.vy", token, 0, VALIDITY, UNBONDING)
    with reverts("ValidatorSet", "UnbondingTooShort", VALIDITY, VALIDITY):
        contract("security/ValidatorSet.vy", token, 1, VALIDITY, VALIDITY)


def test_register__with_a_stake__pulls_it_and_counts(validators: Validators) -> None:
    holder = validators.register(ONE, 40)

    record = validators.set.validator(holder)
    assert (record.signer, record.stake, record.exit_at) == (account(ONE), 40, 0)
    assert validators.set.account_of(account(ONE)) == holder
    assert validators.set.active_count() == 1
    assert validators.token.balanceOf(validators.set.address) == 40
    assert validators.token.balanceOf(holder) == 960


def test_register__what_is_taken_or_too_little__is_refused(validators: Validators) -> None:
    holder = validators.register(ONE, 40)
    other = validators.fund("other")

    with reverts("ValidatorSet", "AlreadyValidator", holder.lower()):
        validators.set.register(account(TWO), 40, sender=holder)
    with reverts("ValidatorSet", "SignerTaken", account(ONE).lower()):
        validators.set.register(account(ONE), 40, sender=other)
    with reverts("ValidatorSet", "SignerTaken", ZERO_ADDRESS):
        validators.set.register(ZERO_ADDRESS, 40, sender=other)
    with reverts("ValidatorSet", "StakeTooLow", MIN_STAKE - 1, MIN_STAKE):
        validators.set.register(account(TWO), MIN_STAKE - 1, sender=other)


def test_register__a_33rd_validator__is_refused_until_one_leaves(validators: Validators) -> None:
    names = [f"validator {number}" for number in range(32)]
    holders = [validators.register(name, MIN_STAKE) for name in names]
    late = validators.fund("late")

    with reverts("ValidatorSet", "SetFull", 32):
        validators.set.register(account("late"), MIN_STAKE, sender=late)
    validators.publish(*names)
    validators.set.request_exit(sender=holders[0])
    validators.set.register(account("late"), MIN_STAKE, sender=late)
    validators.publish(*names[1:], "late")
    assert validators.set.current().total == 32 * MIN_STAKE


def test_register__token_that_keeps_a_part__is_refused() -> None:
    token = boa.loads(GREEDY_TOKEN)
    validators = contract("security/ValidatorSet.vy", token.address, MIN_STAKE, VALIDITY, UNBONDING)
    token.mint(account("holder"), 100)

    with reverts("ValidatorSet", "WrongAmountReceived", 100, 99):
        validators.register(account(ONE), 100, sender=account("holder"))


def test_add_stake__more__weighs_in_the_next_set(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    published.set.add_stake(60, sender=holder)

    assert published.set.validator(holder).stake == 100
    assert published.set.member_weight(1, account(ONE)) == 40
    published.publish(*WEIGHTS)
    assert published.set.member_weight(2, account(ONE)) == 100
    assert published.set.member_weight(1, account(ONE)) == 40
    assert published.token.balanceOf(published.set.address) == 160


def test_add_stake__nothing_or_by_a_stranger_or_a_leaver__is_refused(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    with reverts("ValidatorSet", "ZeroAmount", 0):
        published.set.add_stake(0, sender=holder)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.add_stake(1, sender=account("stranger"))
    published.set.request_exit(sender=holder)
    with reverts("ValidatorSet", "AlreadyLeaving", boa.env.timestamp + UNBONDING):
        published.set.add_stake(1, sender=holder)


def test_request_exit__by_a_member__leaves_the_next_set_only(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    published.set.request_exit(sender=holder)

    exit_at = boa.env.timestamp + UNBONDING
    assert published.set.validator(holder).exit_at == exit_at
    published.set.require_quorum(DIGEST, signatures_of(*in_order(*QUORUM)))
    with reverts("ValidatorSet", "NotAllActive", 3, 2):
        published.publish(*WEIGHTS)
    published.publish(TWO, THREE)
    assert published.set.member_weight(2, account(ONE)) == 0
    with reverts("ValidatorSet", "NotValidator", account(ONE).lower()):
        published.set.require_quorum(DIGEST, signatures_of(ONE))
    with reverts("ValidatorSet", "AlreadyLeaving", exit_at):
        published.set.request_exit(sender=holder)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.request_exit(sender=account("stranger"))


def test_withdraw__after_the_unbonding__returns_the_stake_and_frees_the_signer(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    with reverts("ValidatorSet", "ExitTooEarly", 0, boa.env.timestamp):
        published.set.withdraw(sender=holder)
    published.set.request_exit(sender=holder)
    exit_at = boa.env.timestamp + UNBONDING
    boa.env.time_travel(UNBONDING - 1)
    with reverts("ValidatorSet", "ExitTooEarly", exit_at, exit_at - 1):
        published.set.withdraw(sender=holder)
    boa.env.time_travel(1)
    published.set.withdraw(sender=holder)
    assert published.token.balanceOf(holder) == 1_000
    with reverts("ValidatorSet", "NotValidator", holder.lower()):
        published.set.withdraw(sender=holder)
    published.set.register(account(ONE), 30, sender=holder)
    assert published.set.active_count() == 3


def test_publish__all_active__is_the_set_that_protocol_makes(published: Validators) -> None:
    [event] = [log for log in published.set.get_logs() if type(log).__name__ == "SetPublished"]
    until = boa.env.timestamp + VALIDITY
    expected = validator_set(1, WEIGHTS, until)

    current = published.set.current()

    assert tuple(current) == (1, expected.root, expected.total, until)
    assert (event.number, event.root, event.total, event.valid_until) == (1, expected.root, 100, until)
    assert tuple(event.members) == expected.packed
    assert {name: published.set.member_weight(1, account(name)) for name in WEIGHTS} == WEIGHTS


def test_publish__other_than_exactly_all_active_in_order__is_refused(published: Validators) -> None:
    one, two, three = in_order(ONE, TWO, THREE)

    def publish(*names: str) -> None:
        published.set.publish([account(name) for name in names])

    with reverts("ValidatorSet", "NotAllActive", 2, 3):
        publish(one, two)
    with reverts("ValidatorSet", "MembersUnsorted", account(two).lower()):
        publish(one, three, two)
    with reverts("ValidatorSet", "MembersUnsorted", account(one).lower()):
        publish(one, one, two)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        publish(one, two, "stranger")
    with reverts("ValidatorSet", "NotValidator", ZERO_ADDRESS):
        published.set.publish([ZERO_ADDRESS, account(one), account(two)])


def test_publish__when_nobody_is_active__is_refused(validators: Validators) -> None:
    with reverts("ValidatorSet", "SetEmpty", 1):
        validators.publish()


def test_require_quorum__two_thirds_in_order__gives_the_set(published: Validators) -> None:
    given_set = published.set.require_quorum(DIGEST, signatures_of(*in_order(*QUORUM)))

    assert tuple(given_set) == tuple(published.set.current())


def test_require_quorum__exactly_two_thirds__is_enough(validators: Validators) -> None:
    for name in (ONE, TWO, THREE):
        validators.register(name, 20)
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
    s = int.from_bytes(other[32:64], "big")
    high_s = other[:32] + (GROUP_ORDER_INT - s).to_bytes(32, "big") + bytes([27 + 28 - other[64]])

    for bad in (high_s, other[:64], b"", bytes(65), other[:64] + b"\x00", other[:64] + b"\x1d"):
        with reverts("ValidatorSet", "SignatureInvalid", 1):
            published.set.require_quorum(DIGEST, [good, bad])


def test_require_quorum__over_something_else__recovers_a_stranger(published: Validators) -> None:
    with reverts("ValidatorSet", "NotValidator"):
        published.set.require_quorum(keccak(b"something else"), signatures_of(*in_order(*QUORUM)))


def test_require_quorum__no_set_or_an_expired_one__is_refused(validators: Validators) -> None:
    now = boa.env.timestamp
    with reverts("ValidatorSet", "SetExpired", 0, now):
        validators.set.require_quorum(DIGEST, [])
    validators.register(ONE, 40)
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
def check(digest: bytes32, signatures: DynArray[Bytes[65], 32]):
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
    signatures = signatures_of(*(names[number] for number in (sorted(set(signers)) if in_sequence else signers)))
    with boa.env.anchor():
        quorum = quorum_alone().deploy()
        quorum.adopt(1, expected.valid_until, list(expected.packed))

        assert tuple(quorum.current()) == (1, expected.root, expected.total, expected.valid_until)
        try:
            check_quorum(expected, DIGEST, signatures, Timestamp(boa.env.timestamp))
        except QuorumRefused as error:
            with reverts("ValidatorSet", type(error).__name__):
                quorum.check(DIGEST, signatures)
        else:
            quorum.check(DIGEST, signatures)
