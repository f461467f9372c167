"""What validators sign: the structs against `eth_account`, the quorum's rules one by one."""

import pytest
from coincurve import PrivateKey
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tests.unit.protocol.test_signing import domains, reference_digest
from tristrata.protocol.attestation import (
    CHECKPOINT_TYPE,
    EPOCH_TYPE,
    NEXT_SET_TYPE,
    Checkpoint,
    Epoch,
    NextSet,
    NoQuorum,
    NotValidator,
    QuorumRefused,
    SetExpired,
    SignersUnsorted,
    ValidatorSet,
    check_quorum,
    make_set,
    order_signatures,
    parse_members,
)
from tristrata.protocol.errors import InvalidSignature, InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address
from tristrata.protocol.signing import Domain, address_of, digest, sign
from tristrata.protocol.units import Amount, Timestamp

KEYS = sorted((PrivateKey(bytes([number]) * 32) for number in range(1, 5)), key=lambda key: address_of(key.public_key))
SIGNERS = [address_of(key.public_key) for key in KEYS]
STRANGER = PrivateKey(b"\x09" * 32)
NOW = Timestamp(1_800_000_000)
MESSAGE = b"\x55" * 32

weights = st.integers(1, 2**96 - 1).map(Amount)


def a_set(*of: int, number: int = 1, valid_until: int = NOW) -> ValidatorSet:
    members = {signer: Amount(weight) for signer, weight in zip(SIGNERS, of, strict=False)}
    return make_set(number, members, Timestamp(valid_until))


def signed(*indices: int, message: bytes = MESSAGE) -> list[bytes]:
    return [sign(KEYS[index], message) for index in indices]


@given(
    st.builds(Epoch, strategies.uint64, strategies.uint64, strategies.words, strategies.words, strategies.words),
    domains,
)
def test_digest__any_epoch__equals_eth_account(epoch: Epoch, domain: Domain) -> None:
    assert digest(domain.separator, epoch.struct_hash) == reference_digest(EPOCH_TYPE, epoch, domain)


@given(st.builds(Checkpoint, strategies.words, strategies.uint64, strategies.words), domains)
def test_digest__any_checkpoint__equals_eth_account(checkpoint: Checkpoint, domain: Domain) -> None:
    assert digest(domain.separator, checkpoint.struct_hash) == reference_digest(CHECKPOINT_TYPE, checkpoint, domain)


@given(
    st.builds(NextSet, strategies.uint64, strategies.words, st.integers(0, 2**101), strategies.uint64),
    domains,
)
def test_digest__any_succession__equals_eth_account(following: NextSet, domain: Domain) -> None:
    assert digest(domain.separator, following.struct_hash) == reference_digest(NEXT_SET_TYPE, following, domain)
    values = (following.number, following.root, following.total, following.valid_until)
    assert following.leaf == keccak(encode(["uint64", "bytes32", "uint256", "uint64"], values))


@given(st.dictionaries(strategies.addresses, weights, min_size=1, max_size=32))
def test_root__any_set__is_the_hash_of_its_packed_words(members: dict[Address, Amount]) -> None:
    validators = make_set(7, members, NOW)

    assert validators.root == keccak(encode(["uint256[]"], [validators.packed]))
    assert list(validators.packed) == sorted(validators.packed)
    assert parse_members(validators.packed) == validators.members
    assert validators.total == sum(members.values())


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({}, "0 members"),
        ({Address(bytes([number]) * 20): Amount(1) for number in range(1, 34)}, "33 members"),
        ({SIGNERS[0]: Amount(0)}, "weight 0"),
        ({SIGNERS[0]: Amount(2**96)}, "between 1 and"),
        ({Address(bytes(20)): Amount(1)}, "other than zero"),
    ],
)
def test_set__breaks_a_rule__is_refused(members: dict[Address, Amount], rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        make_set(1, members, NOW)


def test_set__unsorted_or_twice__is_refused() -> None:
    members = a_set(1, 1).members

    for wrong in (members[::-1], (members[0], members[0])):
        with pytest.raises(InvalidValue, match="sorted by signer"):
            ValidatorSet(1, wrong, NOW)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=4), st.sets(st.integers(0, 3)))
def test_check_quorum__any_weights_and_signers__needs_exactly_two_thirds(of: list[int], who: set[int]) -> None:
    enough = 3 * sum(of[index] for index in who) >= 2 * sum(of)

    if enough:
        check_quorum(a_set(*of), MESSAGE, signed(*sorted(who)), NOW)
    else:
        with pytest.raises(NoQuorum, match="two thirds"):
            check_quorum(a_set(*of), MESSAGE, signed(*sorted(who)), NOW)


@pytest.mark.parametrize(
    ("validators", "signatures", "error"),
    [
        (a_set(1, 1, 1, 1, valid_until=NOW - 1), signed(0, 1, 2, 3), SetExpired),
        (a_set(1, 1, 1, 1), signed(0, 2, 1, 3), SignersUnsorted),
        (a_set(1, 1, 1, 1), signed(0, 0, 0, 0), SignersUnsorted),
        (a_set(1, 1), signed(0, 1, 2), NotValidator),
        (a_set(1, 1, 1), signed(0, 1, 2, message=b"\x56" * 32), NotValidator),
        (a_set(1, 1, 1), [*signed(0, 1), sign(STRANGER, MESSAGE)], NotValidator),
        (a_set(1, 1, 1), [], NoQuorum),
    ],
)
def test_check_quorum__breaks_a_rule__is_named(
    validators: ValidatorSet, signatures: list[bytes], error: type[QuorumRefused]
) -> None:
    with pytest.raises(error):
        check_quorum(validators, MESSAGE, signatures, NOW)


def test_check_quorum__malformed_signature__is_refused() -> None:
    with pytest.raises(InvalidSignature):
        check_quorum(a_set(1), MESSAGE, [bytes(65)], NOW)


@given(st.permutations([0, 1, 2, 3, 3, 1]))
def test_order_signatures__in_any_order_and_repeated__makes_a_quorum(order: list[int]) -> None:
    ordered = order_signatures(MESSAGE, signed(*order))

    assert ordered == tuple(signed(0, 1, 2, 3))
    check_quorum(a_set(1, 1, 1, 1), MESSAGE, ordered, NOW)
