"""Every signed struct tried on every other chain, contract, session, account and epoch, again, and late: all refused.

What is tried is always the strongest replay: a struct that would do here, signed for elsewhere or as something else.
The control, the same struct signed as it should be, must be carried; a refusal must be named, and change no storage.

A token's own structs have no salt in their domain, so an asset with one address on two chains that chose the same chain
id is not for us to tell apart.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import boa
import pytest
from msgspec.structs import replace

from tests.contracts.conftest import REF, account, as_abi
from tests.contracts.replay import hub_cases, quorum_cases, token_cases, welcome_cases
from tests.contracts.replay.case import Case, by_quorum, vrs
from tests.contracts.replay.hub_cases import session_fields
from tests.contracts.replay.quorum_cases import advance, epoch, next_set
from tests.contracts.replay.world import World, refusals
from tests.unit.protocol.test_eip712_vectors import declared_types
from tristrata.bindings.artifacts import _contracts_folder
from tristrata.protocol.ids import Address, ChainRef, chain_ref, eip155
from tristrata.protocol.signing import Domain, digest

CASES = [*hub_cases.CASES, *welcome_cases.CASES, *quorum_cases.CASES, *token_cases.CASES]
UNTAKEN = {
    "Receipt": "its miner signs it for the client and the settler; contracts see only the tree's root",
    "ApiKeyGrant": "its owner signs it for the router, which keeps it",
    "Terms": "a part of OpenSession",
}
CARRIED_THE_SAME_WAY = {
    "register_sponsored": "a registration, as register takes it",
    "slash_conviction": "a checkpoint, as slash_equivocation takes it",
    "require_quorum": "a digest that another contract has made",
    "isValidSignature": "a digest that another contract has made",
}
_EXTERNAL = re.compile(r"^@external\n(?:@\w+\n)*def (\w+)\(([^)]*)\)", re.MULTILINE)
_SIGNED = re.compile(r"[sS]ignature|: Charge\b|\[Charge\b|\bv: uint8")
_TYPE_STRING = re.compile(r'^_(\w*)TYPE_HASH: constant\(bytes32\) = keccak256\(\s*"([^"]+)"\s*\)', re.MULTILINE)


@dataclass
class Worlds:
    """Where the signatures are for, and where else they are tried."""

    home: World
    deployment: World  # on the same chain
    reference: World  # the same chain id and addresses, on another custom chain
    chain: World  # the same addresses and reference, on another chain id


@pytest.fixture(scope="module")
def worlds(_search_paths: None) -> Iterator[Worlds]:
    with boa.swap_env(boa.Env()):
        home, deployment = World(), World(number=1)
    with boa.swap_env(boa.Env()):
        reference = World(chain_ref(eip155(1), ChainRef(REF), Address(b"\x12" * 20)))
    with boa.swap_env(boa.Env()):
        boa.env.evm.patch.chain_id = 2
        chain = World()
    yield Worlds(home, deployment, reference, chain)


@pytest.fixture
def home(worlds: Worlds) -> Iterator[World]:
    with worlds.home.entered():
        yield worlds.home


def name_of(case: Case) -> str:
    return f"{case.name}-{case.how}"


each_case = pytest.mark.parametrize("case", CASES, ids=name_of)
# A token's domain has no salt.
each_elsewhere = pytest.mark.parametrize(
    ("case", "elsewhere"),
    [
        pytest.param(case, elsewhere, id=f"{name_of(case)}-{elsewhere}")
        for case in CASES
        for elsewhere in (("deployment", "chain", "reference") if case.is_salted else ("deployment", "chain"))
    ],
)


def test_worlds__other_chains__have_the_same_addresses(worlds: Worlds) -> None:
    home, *others = [[found.address for found in world.kinds] for world in vars(worlds).values()]

    assert others == [others[0], home, home]
    assert set(others[0]).isdisjoint(home)


@each_elsewhere
def test_replay__signed_for_home__is_refused_elsewhere(worlds: Worlds, case: Case, elsewhere: str) -> None:
    there = getattr(worlds, elsewhere)
    with worlds.home.entered():
        as_it_is = case.make(worlds.home)
        case.succeed(worlds.home, as_it_is, case.digest(worlds.home, as_it_is))
    with there.entered():
        struct = case.make(there)
        signed = digest(case.separator(worlds.home), case.hashed(struct))

        assert case.refused(there, struct, signed) == {case.wrong}
        assert case.refused(there, as_it_is, case.digest(worlds.home, as_it_is))
        case.succeed(there, struct, case.digest(there, struct))


@each_case
def test_replay__signed_before_a_fork__is_refused_under_its_new_chain_id(home: World, case: Case) -> None:
    struct = case.make(home)
    signed = case.digest(home, struct)
    boa.env.evm.patch.chain_id = 2

    if case.forks:
        assert case.refused(home, struct, signed) == {case.wrong}
        case.succeed(home, struct, case.digest(home, struct))
    else:
        case.succeed(home, struct, signed)


@each_case
def test_replay__signed_for_any_other_contract__is_refused(home: World, case: Case) -> None:
    domains = [home.domain(kind).separator for kind in home.kinds]
    tokens = [home.asset(token).separator for token in (home.dollar, home.stake)]
    nobody = [Domain(eip155(1), home.ref, Address(bytes(20))).separator]
    struct = case.make(home)
    others = {*domains, *tokens, *nobody} - {case.separator(home)}

    assert len(others) == len(home.kinds) + 2
    digests = [digest(separator, case.hashed(struct)) for separator in others]
    assert case.refused(home, struct, *digests) == {case.wrong}
    case.succeed(home, struct, case.digest(home, struct))


@each_case
def test_replay__any_other_struct_signed_for_the_same_contract__is_refused(home: World, case: Case) -> None:
    struct = case.make(home)

    others = {other.name: other.hashed(other.make(home)) for other in CASES if other.name != case.name}
    digests = [digest(case.separator(home), struct_hash) for struct_hash in others.values()]
    assert case.refused(home, struct, *digests) == {case.wrong}


@each_case
def test_replay__signed_for_another_session_account_or_epoch__is_refused(home: World, case: Case) -> None:
    struct = case.make(home)
    signed = case.digest(home, struct)

    for other in case.others(home):
        assert case.refused(home, other, signed) == {case.wrong}
        with boa.env.anchor():
            case.succeed(home, other, case.digest(home, other))
    case.succeed(home, struct, signed)


@each_case
def test_replay__carried_before__serves_once(home: World, case: Case) -> None:
    struct = case.make(home)
    authority = case.authorize(home, struct, case.digest(home, struct))
    case.carry(home, struct, authority)

    assert case.refused_with(home, struct, authority) == {case.again}


@each_case
def test_replay__after_its_time__is_refused(home: World, case: Case) -> None:
    struct = case.make(home)
    signed = case.digest(home, struct)
    with boa.env.anchor():
        case.succeed(home, struct, signed)
    case.wait(home)

    assert case.refused(home, struct, signed) == {case.late}


def test_replay__quorum_of_an_epoch__does_not_seal_the_next(home: World) -> None:
    first = epoch(home)
    signatures = by_quorum(home, first, digest(home.domain(home.outbox).separator, first.struct_hash))
    home.outbox.seal(as_abi(first), signatures)
    boa.env.time_travel(blocks=2, block_delta=1)

    following = replace(first, epoch=2, block_number=first.block_number + 1)
    assert refusals([lambda: home.outbox.seal(as_abi(following), signatures)]) == {"NotValidator"}


def test_replay__quorum_of_the_outgoing_set__does_not_speak_for_its_successor(home: World) -> None:
    """A set's own signatures do not make it, or its members, come back."""
    separator = home.domain(home.outbox).separator
    first, second = next_set(home), next_set(home, number=3, weight=2)
    both = [by_quorum(home, struct, digest(separator, struct.struct_hash)) for struct in (first, second)]
    advance(home, first, both[0])

    assert refusals([lambda: advance(home, second, both[1])]) == {"NotValidator"}


def test_replay__order_and_payment__do_not_stand_for_each_other(home: World) -> None:
    by_order, by_payment = [case for case in CASES if case.name == "OpenSession"]
    order = by_order.make(home)
    signed = by_order.digest(home, order)
    signature = by_order.authorize(home, order, signed)
    v, r, s = by_payment.authorize(home, order, signed)

    assert by_payment.refused_with(home, order, vrs(signature)) == {"WrongSigner"}
    assert by_order.refused_with(home, order, r + s + bytes([v])) == {"NotSignedBy"}
    home.sessions.open_with_authorization(*session_fields(order), v, r, s)


def test_replay__deposit_and_session_paid_by_the_same_token__do_not_stand_for_each_other(home: World) -> None:
    """Neither contract takes a payment that was authorized to the other."""
    cases = {case.how: case for case in CASES}
    deposit, top_up = cases["deposit_with_authorization"], cases["top_up_with_authorization"]
    for one, other in ((deposit, top_up), (top_up, deposit)):
        authority = one.authorize(home, one.make(home), one.digest(home, one.make(home)))
        assert other.refused_with(home, other.make(home), authority) == {"WrongSigner"}


def test_replay__replaced_key_that_came_back__does_not_serve_twice(home: World) -> None:
    case = next(case for case in CASES if case.name == "ReplaceKey")
    order = replace(case.make(home), deadline=boa.env.timestamp + 10_000)
    signature = case.authorize(home, order, case.digest(home, order))
    case.carry(home, order, signature)
    boa.env.time_travel(home.sessions.grace())
    home.sessions.replace_key(order.session, account("session key"), sender=account("owner"))
    boa.env.time_travel(home.sessions.grace())

    assert case.refused_with(home, order, signature) == {"SignatureUsed"}


def contract_types() -> dict[str, set[str]]:
    """All EIP-712 type strings in contracts, by the name of their struct."""
    found: dict[str, set[str]] = {}
    for path in _contracts_folder().rglob("*.vy"):
        text = path.read_text()
        strings = [string for _, string in _TYPE_STRING.findall(text)]
        # None escapes for being written in another way.
        assert len(strings) == text.count("TYPE_HASH: constant"), path
        for string in strings:
            found.setdefault(string.partition("(")[0], set()).add(string)
    return found


def test_matrix__every_type_string__is_in_it_and_the_same_in_vyper_and_python() -> None:
    in_contracts, in_python = contract_types(), declared_types()
    ours = {name: strings for name, strings in in_contracts.items() if name != "EIP712Domain"}
    tried = {case.name for case in CASES}

    assert all(strings == {in_python[name]} for name, strings in ours.items())
    assert in_python.keys() == tried | UNTAKEN.keys()
    assert tried.isdisjoint(UNTAKEN)
    # Snekmate has the type string of permits.
    assert ours.keys() == (tried - {"Permit"}) | {"Terms"}
    assert {case.is_salted for case in CASES if case.name in ours} == {True, False}


def test_matrix__every_function_that_takes_a_signature__is_carried_to() -> None:
    taking = set()
    for path in _contracts_folder().rglob("*.vy"):
        for name, arguments in _EXTERNAL.findall(path.read_text()):
            if _SIGNED.search(arguments):
                taking.add(name)

    assert taking - {case.how for case in CASES} == CARRIED_THE_SAME_WAY.keys()
