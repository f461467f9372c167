"""Ownership: two steps to hand it over, changes that are announced, and a pause that stops nobody from leaving."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import boa
import pytest

from tests.contracts.conftest import account, contract, reverts
from tristrata.bindings.artifacts import CONTRACTS, _contracts_folder, load
from tristrata.protocol.hashing import keccak

DELAY, LIFETIME = 50, 30 * 86_400
OWNER, NEXT, STRANGER = account("owner"), account("next owner"), account("stranger")
NOBODY = "0x" + "00" * 20
FUNCTIONS = {
    *("owner", "pending_owner", "paused", "change_delay", "ripe_at"),
    *("transfer_ownership", "accept_ownership", "announce", "withdraw_announcement", "pause"),
}
"""What every contract that has an owner exports."""

ENTRIES = {
    "Welcome": {
        *("register", "register_sponsored", "sponsor_deposit", "credit", "credit_for"),
        *("deposit", "deposit_for", "deposit_with_permit", "deposit_with_authorization"),
    },
    "ValidatorSet": {"register"},
    "CheckpointLedger": {"attest"},
    "Inbox": {"push"},
    "MinerRegistry": {"register", "offer"},
    "RouterRegistry": {"add_bond"},
    "Sessions": {"open", "open_for", "open_with_authorization", "top_up", "top_up_with_authorization"},
    "TaskQueue": {"request"},
}
"""All that a pause stops, by contract: what begins something new, or takes money in."""

EXITS = {
    "Welcome": {"sponsor_withdraw", "withdraw", "withdraw_for", "on_message"},
    "ValidatorSet": {
        *("deallocate", "release", "request_exit", "withdraw", "on_message"),
        *("slash_equivocation", "slash_conviction", "slash_false_epoch"),
    },
    "CheckpointLedger": {"finalize"},
    "Inbox": {"prove_randomness"},
    "MinerRegistry": {
        *("withdraw_offer", "remove_bond", "withdraw_bond", "request_exit", "exit"),
        *("release", "penalize", "jail", "unjail"),
    },
    "RouterRegistry": {"request_withdrawal", "withdraw", "release", "slash"},
    "Sessions": {"request_close", "request_close_for", "close", "forfeit", "on_message", "replace_key"},
    "Settlement": {
        *("charge", "settle", "multicall", "refund", "forfeit", "veto", "refute"),
        *("claim", "claim_many", "claim_direct", "claim_to", "collect_refund"),
    },
    "TaskQueue": {"cancel", "assign", "commit", "reveal", "advance", "settle_bond", "deliver", "withdraw"},
    "Outbox": {"seal", "send", "advance", "attest_child", "stop_payouts"},
}
"""What must go on while anything is paused: ways out, and what they wait for."""


FOR_TESTS = {name for name, path in CONTRACTS.items() if path.startswith("testing/")}


@pytest.fixture
def harness() -> Any:
    with boa.env.prank(OWNER):
        return contract("testing/OwnershipHarness.vy", DELAY)


def change_to(harness: Any, value: int) -> bytes:
    return keccak(harness.set_number.prepare_calldata(value))


def announce(harness: Any, value: int = 7) -> bytes:
    change = change_to(harness, value)
    harness.announce(change, sender=OWNER)
    return change


def told(harness: Any) -> list[tuple[Any, ...]]:
    """The events of the last call, as name and values; before these titanoboa puts the contract's address."""
    return [(type(log).__name__, *(getattr(log, field) for field in log._fields[1:])) for log in harness.get_logs()]


def test_init__deployed__belongs_to_the_deployer_and_runs(harness: Any) -> None:
    assert (harness.owner(), harness.pending_owner(), harness.change_delay()) == (OWNER, NOBODY, DELAY)
    assert not harness.paused()
    assert harness.ripe_at(change_to(harness, 7)) == 0


def test_transfer_ownership__accepted__is_the_next_owners_alone(harness: Any) -> None:
    harness.transfer_ownership(NEXT, sender=OWNER)
    assert told(harness) == [("OwnershipOffered", OWNER, NEXT)]
    assert (harness.owner(), harness.pending_owner()) == (OWNER, NEXT)
    harness.set_number_now(1, sender=OWNER)

    harness.accept_ownership(sender=NEXT)

    assert told(harness) == [("OwnershipTaken", NEXT)]
    assert (harness.owner(), harness.pending_owner()) == (NEXT, NOBODY)
    harness.set_number_now(2, sender=NEXT)
    with reverts("Inbox", "NotOwner", OWNER.lower()):
        harness.set_number_now(3, sender=OWNER)
    with reverts("Inbox", "NotPendingOwner", NEXT.lower()):
        harness.accept_ownership(sender=NEXT)


def test_transfer_ownership__taken_back_or_offered_to_another__cannot_be_accepted(harness: Any) -> None:
    for offer in (NOBODY, STRANGER):
        harness.transfer_ownership(NEXT, sender=OWNER)
        harness.transfer_ownership(offer, sender=OWNER)

        assert told(harness) == [("OwnershipOffered", OWNER, offer)]
        with reverts("Inbox", "NotPendingOwner", NEXT.lower()):
            harness.accept_ownership(sender=NEXT)
    assert harness.owner() == OWNER


def test_ownership__not_offered__is_nobodys_to_accept(harness: Any) -> None:
    for taker in (STRANGER, OWNER):
        with reverts("Inbox", "NotPendingOwner", taker.lower()):
            harness.accept_ownership(sender=taker)


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("transfer_ownership", STRANGER),
        ("announce", b"\x01" * 32),
        ("withdraw_announcement", b"\x01" * 32),
        ("pause", True),
        ("set_number", 7),
        ("set_number_now", 7),
    ],
)
def test_every_change__by_a_stranger_or_the_next_owner__is_refused(harness: Any, method: str, argument: Any) -> None:
    harness.transfer_ownership(NEXT, sender=OWNER)
    announce(harness)
    boa.env.time_travel(DELAY)

    for caller in (STRANGER, NEXT):
        with reverts("Inbox", "NotOwner", caller.lower()):
            getattr(harness, method)(argument, sender=caller)
    assert (harness.owner(), harness.number(), harness.paused()) == (OWNER, 0, False)


def test_make__announced_long_enough_ago__is_made_once(harness: Any) -> None:
    change = announce(harness)
    ripe_at = boa.env.timestamp + DELAY
    assert told(harness) == [("ChangeAnnounced", change, ripe_at)]
    assert harness.ripe_at(change) == ripe_at
    boa.env.time_travel(DELAY)

    harness.set_number(7, sender=OWNER)

    assert told(harness) == [("ChangeMade", change)]
    assert (harness.number(), harness.ripe_at(change)) == (7, 0)
    with reverts("Inbox", "ChangeNotAnnounced", change):
        harness.set_number(7, sender=OWNER)


@pytest.mark.parametrize("seconds", [0, DELAY - 1, DELAY + LIFETIME + 1])
def test_make__too_early_or_too_late__is_refused(harness: Any, seconds: int) -> None:
    announce(harness)
    ripe_at = boa.env.timestamp + DELAY
    if seconds:
        boa.env.time_travel(seconds)

    with reverts("Inbox", "ChangeNotRipe", ripe_at, ripe_at + LIFETIME, boa.env.timestamp):
        harness.set_number(7, sender=OWNER)
    assert harness.number() == 0


def test_make__at_the_last_second__is_made(harness: Any) -> None:
    announce(harness)
    boa.env.time_travel(DELAY + LIFETIME)

    harness.set_number(7, sender=OWNER)

    assert harness.number() == 7


def test_make__another_argument_or_no_announcement__is_refused(harness: Any) -> None:
    announce(harness)
    boa.env.time_travel(DELAY)

    with reverts("Inbox", "ChangeNotAnnounced", change_to(harness, 8)):
        harness.set_number(8, sender=OWNER)
    harness.set_number(7, sender=OWNER)


def test_announce__again__starts_the_delay_anew(harness: Any) -> None:
    announce(harness)
    boa.env.time_travel(DELAY - 1)
    announce(harness)
    boa.env.time_travel(1)

    with reverts("Inbox", "ChangeNotRipe"):
        harness.set_number(7, sender=OWNER)
    boa.env.time_travel(DELAY - 1)
    harness.set_number(7, sender=OWNER)


def test_make__announced_by_the_owner_before__is_the_next_owners_to_make(harness: Any) -> None:
    announce(harness)
    harness.transfer_ownership(NEXT, sender=OWNER)
    harness.accept_ownership(sender=NEXT)
    boa.env.time_travel(DELAY)

    with reverts("Inbox", "NotOwner", OWNER.lower()):
        harness.set_number(7, sender=OWNER)
    harness.set_number(7, sender=NEXT)


def test_withdraw_announcement__announced__can_be_made_no_more(harness: Any) -> None:
    change = announce(harness)
    boa.env.time_travel(DELAY)

    harness.withdraw_announcement(change, sender=OWNER)

    assert told(harness) == [("ChangeWithdrawn", change)]
    with reverts("Inbox", "ChangeNotAnnounced", change):
        harness.set_number(7, sender=OWNER)
    with reverts("Inbox", "ChangeNotAnnounced", change):
        harness.withdraw_announcement(change, sender=OWNER)


def test_pause__then_unpause__stops_entries_and_no_change(harness: Any) -> None:
    announce(harness)
    harness.pause(True, sender=OWNER)
    assert told(harness) == [("Paused", True)]
    boa.env.time_travel(DELAY)

    with reverts("Inbox", "ContractPaused", harness.address.lower()):
        harness.enter(1)
    harness.set_number(7, sender=OWNER)
    harness.transfer_ownership(NEXT, sender=OWNER)
    harness.accept_ownership(sender=NEXT)
    harness.pause(False, sender=NEXT)
    assert told(harness) == [("Paused", False)]
    harness.enter(1, sender=STRANGER)
    assert harness.number() == 1


def test_contracts__with_an_owner__export_all_of_ownership() -> None:
    exported = {name: {entry["name"] for entry in load(name).abi if entry["type"] == "function"} for name in CONTRACTS}
    owned = {name for name, functions in exported.items() if functions & {"announce", "pause"}}

    assert owned == {name for name, source in sources().items() if "initializes: ownership" in source}
    assert owned == ENTRIES.keys()
    assert {name: FUNCTIONS - exported[name] for name in owned} == {name: set() for name in owned}


def test_pause__of_every_contract__stops_just_its_entries() -> None:
    stopped = stopped_by_pauses(sources())

    assert {name: found for name, found in stopped.items() if found and name not in FOR_TESTS} == ENTRIES


def test_pause__of_any_contract__stops_no_way_out() -> None:
    functions = {name: {entry.get("name") for entry in load(name).abi} for name in EXITS}
    stopped = stopped_by_pauses(sources())

    assert {name: exits - functions[name] for name, exits in EXITS.items()} == {name: set() for name in EXITS}
    assert {name: exits & stopped[name] for name, exits in EXITS.items()} == {name: set() for name in EXITS}


@pytest.mark.parametrize(
    ("file", "helper", "caller", "exits"),
    [
        ("MinerRegistry", "def _refresh(", "MinerRegistry", {"request_exit", "unjail"}),  # of its own
        ("stakes", "def _leave(", "ValidatorSet", {"request_exit", "slash_equivocation"}),  # of a shared module
        ("RouterRegistry", "def release(", "Sessions", {"close"}),  # of another contract, two calls away
        ("RouterRegistry", "def slash(", "Settlement", {"forfeit"}),  # and three
    ],
)
def test_stopped_by_pauses__a_guard_put_on_a_way_out__is_found(
    file: str, helper: str, caller: str, exits: set[str]
) -> None:
    tampered = dict(sources())
    head, _, tail = tampered[file].partition(helper)
    signature, _, body = tail.partition(':\n    """')
    tampered[file] = f'{head}{helper}{signature}:\n    ownership._require_running()\n    """{body}'

    assert tampered[file].count(GUARD) == sources()[file].count(GUARD) + 1
    found = stopped_by_pauses(tampered)[caller]
    assert exits <= found
    assert not exits & stopped_by_pauses(sources())[caller]


GUARD = "ownership._require_running()"
_FUNCTION = re.compile(r"^((?:@\w+\n)+)def (\w+)\(", re.MULTILINE)
_PROSE = re.compile(r'"""[\s\S]*?"""|#.*')
_CALL = re.compile(r"\b(\w+)\.(\w+)\(|\bI(\w+)\([\w\[\]]+\)\.(\w+)\(")


@cache
def sources() -> Mapping[str, str]:
    """The deployed contracts and the shared modules, by name."""
    folder = _contracts_folder()
    shared = {path.stem: path.read_text() for path in (folder / "shared").glob("*.vy")}
    return {**shared, **{name: (folder / path).read_text() for name, path in CONTRACTS.items()}}


def stopped_by_pauses(files: Mapping[str, str]) -> dict[str, set[str]]:
    """By contract, its external functions that ask somewhere, in any contract that they call, whether it is paused."""
    external: set[tuple[str, str]] = set()
    calls: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for file, source in files.items():
        for decorators, name, body in functions_of(source):
            calls[file, name] = set(called(file, body))
            if "@external" in decorators:
                external.add((file, name))
    stopped = {("ownership", "_require_running")}
    while more := {caller for caller, callees in calls.items() if callees & stopped} - stopped:
        stopped |= more
    exports = {
        name: {name} | {module for module in files if re.search(rf"^exports:.*\b{module}\.__interface__", text, re.M)}
        for name, text in files.items()
    }
    return {name: {function for file, function in stopped & external if file in exports[name]} for name in CONTRACTS}


def functions_of(source: str) -> Iterator[tuple[str, str, str]]:
    """Decorators, name and code of each function."""
    code = _PROSE.sub("", source)
    found = list(_FUNCTION.finditer(code))
    for match, after in zip(found, [*found[1:], None], strict=True):
        yield match[1], match[2], code[match.end() : after.start() if after else None]


def called(file: str, body: str) -> Iterator[tuple[str, str]]:
    """Whom a function calls: its own file's, a module's, or another contract's functions."""
    for module, function, interface, method in _CALL.findall(body):
        yield (interface, method) if interface else (file if module == "self" else module, function)
