"""Our StandardMerkleTree against OpenZeppelin's own.

The vectors are what npm's `@openzeppelin/merkle-tree` 1.0.8 gives for the leaves that the two functions below describe.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.standard_tree import StandardTree, leaf_hash, payout_leaf, receipt_leaf, root_from_proof

# (leaves, root, index, proof of that index), types bytes32, uint64, bytes32
RECEIPTS = [
    (1, "aa6775c95752640da884f75c10e62a6c743541d16ec8e6f0e61e546e6cac07c4", 0, []),
    (
        2,
        "d6de6cca84be870c6651605bcf478b5b1d83c2304bb0031a0dba1240ddb1dcdb",
        1,
        ["aa6775c95752640da884f75c10e62a6c743541d16ec8e6f0e61e546e6cac07c4"],
    ),
    (
        3,
        "d057a7ac296b16551b6bd26d685aa0e019371c6b628e0358098373ce316975a5",
        2,
        ["d6de6cca84be870c6651605bcf478b5b1d83c2304bb0031a0dba1240ddb1dcdb"],
    ),
    (
        5,
        "cb4c322ba4ae86d0f0ce5b3864d10203328ee9eb16055bb37067c9a77756e3b5",
        4,
        [
            "38f6e10018b444a66b5381ff6d6998c4072105e1d4d28adf4b794eab68ec606b",
            "e8bfee45cbc496cd6d19a365ac957e0bc666bed28a1b102e587dc204b12975d5",
            "12f044aa563950f908357839f7a19beda7764b3009361bc9f0287479802f025f",
        ],
    ),
    (
        8,
        "bf598548974ea1b8e676552382cbaba55816ab1556783016c5110c6ce2d8e3f4",
        7,
        [
            "38f6e10018b444a66b5381ff6d6998c4072105e1d4d28adf4b794eab68ec606b",
            "d0869782e3c5fbc00ae614d5c13632dee20bb140f9ee396a4dc199cde2af4321",
            "187f8ea0b5f8eda1a161c7e4af31d57534d1bbd8d00af6656f262a200d56e234",
        ],
    ),
    (
        13,
        "4654c003ba8eb1e6c3fde3364d905817bd64009b27e86bd4a25860e7dc2787f8",
        12,
        [
            "4d75140b8fce83d5ee069455fde3e5d437a632c43adfad51f0375d7bb81941cf",
            "321df7c270e11405b2b94acffe96bc5bfc60623e60d4cbd257bb410bb450fd5d",
            "1083cfedac695dea19d9bfbeea60c7ecc230ab141f3820c7de8237efec89e171",
            "4fe2629606220a9fefa004704bc9992ec08f51898f9cd74db3ce27fea61b5e10",
        ],
    ),
]
# types address, uint256
PAYOUTS = [
    (1, "d76cb7236e6307c360dd63c85aadcb2409e4779bcd47ff36b8745989fd752067", 0, []),
    (
        4,
        "16353c1f3aec7e2a81b845d290383b16f20d3204d130426fc3e823f1cc061c25",
        0,
        [
            "73beafab0d73c4ce9e773a9dbe3311124b6f104bd71baaf9b09b8957c2dcadbf",
            "72d01718ae12fd2fbc27539384f4294f4169c74b20937425b271e11b27cdf064",
        ],
    ),
    (
        7,
        "3aa46a76491bd882b2cf580ef9f14bf77bcae9ed26e4dcfd36ecb53fba28358d",
        0,
        [
            "d79c4dfffe12a811b212f795db577eff4c157d3c38fcdb224c23db0307ac7ad5",
            "afd6339bb8f899ec0e4fd615f2b6de3175e1661bdded28ac76bf4c3a35f8c36a",
            "ef401da20d8ae27c4629303344d648785e2edb01d54d6db912ef88afed46dc10",
        ],
    ),
]

encoded_leaves = st.lists(st.binary(min_size=64, max_size=96), max_size=40)


def receipts(count: int) -> list[bytes]:
    return [
        receipt_leaf(SessionId(bytes([0x11 + number % 3]) * 32), number, bytes([0x11 + number + 100]) * 32)
        for number in range(count)
    ]


def payouts(count: int) -> list[bytes]:
    return [payout_leaf(Address(bytes([0x21 + number]) * 20), 1_000_000 * (number + 1)) for number in range(count)]


@pytest.mark.parametrize(("count", "root", "index", "proof"), RECEIPTS)
def test_receipts__openzeppelins_vectors__are_met(count: int, root: str, index: int, proof: list[str]) -> None:
    tree = StandardTree(receipts(count))

    assert tree.root.hex() == root
    assert [sibling.hex() for sibling in tree.prove(index)] == proof


@pytest.mark.parametrize(("count", "root", "index", "proof"), PAYOUTS)
def test_payouts__openzeppelins_vectors__are_met(count: int, root: str, index: int, proof: list[str]) -> None:
    tree = StandardTree(payouts(count))

    assert tree.root.hex() == root
    assert [sibling.hex() for sibling in tree.prove(index)] == proof


def test_root__no_leaves__is_32_zero_bytes() -> None:
    assert StandardTree([]).root == bytes(32)


@given(encoded_leaves.filter(bool), st.data())
def test_prove__any_leaf__leads_to_the_root(encoded: list[bytes], data: st.DataObject) -> None:
    tree = StandardTree(encoded)
    index = data.draw(st.integers(0, len(encoded) - 1))

    assert root_from_proof(leaf_hash(encoded[index]), tree.prove(index)) == tree.root


@given(encoded_leaves, st.randoms())
def test_root__leaves_in_another_order__is_the_same(encoded: list[bytes], chance: object) -> None:
    shuffled = list(encoded)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert StandardTree(shuffled).root == StandardTree(encoded).root


@given(st.lists(strategies.words, min_size=2, max_size=20, unique=True))
def test_proof__of_another_leaf__leads_elsewhere(encoded: list[bytes]) -> None:
    tree = StandardTree(encoded)

    assert root_from_proof(leaf_hash(encoded[1]), tree.prove(0)) != tree.root


@pytest.mark.parametrize("index", [-1, 3])
def test_prove__no_such_leaf__names_the_index(index: int) -> None:
    with pytest.raises(InvalidValue, match=f"leaf {index}"):
        StandardTree(receipts(3)).prove(index)


def test_root_from_proof__sibling_of_another_length__is_refused() -> None:
    with pytest.raises(InvalidValue, match="31 bytes"):
        root_from_proof(bytes(32), [bytes(31)])
