"""The key store on a real SQLite file: who gets in, what a key has spent, and that a restart changes neither."""

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.integration.storage.test_receipt_book import make_entry
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.units import Amount
from tristrata.storage import api_keys
from tristrata.storage.api_keys import ApiKeys, KeyBudgetExhausted, KeyRefused, KeyUnknown, Scope
from tristrata.storage.awaiting import AwaitingReceipt, AwaitingReceipts
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook
from tristrata.storage.usage import tally, used

OWNER, OTHER = b"\x77" * 20, b"\x78" * 32
SESSIONS = [bytes([number]) * 32 for number in range(3)]
NOW = 1_800_000_000


def hash_of(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


@pytest.fixture
async def database(location: Path | str):
    database = await Database.open(location)
    yield database
    await database.close()


async def test_grant__unknown_secret_then_more_sessions__is_one_key_that_prefers_the_newest(database: Database) -> None:
    keys = await ApiKeys.open(database)
    for session in SESSIONS:
        key = await keys.grant(hash_of("a"), OWNER, session, NOW)
    again = await keys.grant(hash_of("a"), OWNER, SESSIONS[0], NOW)  # an old grant, replayed

    assert again is key
    assert key.sessions == tuple(SESSIONS)
    reopened = (await ApiKeys.open(database)).find(hash_of("a"), NOW)
    assert reopened == key


async def test_grant__anothers_or_a_revoked_key__is_refused_for_ever(database: Database) -> None:
    keys = await ApiKeys.open(database)
    key = await keys.grant(hash_of("a"), OWNER, SESSIONS[0], NOW)
    with pytest.raises(KeyRefused, match="different owners"):
        await keys.grant(hash_of("a"), OTHER, SESSIONS[1], NOW)

    await keys.revoke(key, NOW)
    for store in (keys, await ApiKeys.open(database)):
        assert store.find(hash_of("a"), NOW) is None
        with pytest.raises(KeyRefused, match="stays so"):
            await store.grant(hash_of("a"), OWNER, SESSIONS[0], NOW)


async def test_find__expired_key__is_none_from_its_second_on(database: Database) -> None:
    keys = await ApiKeys.open(database)
    key = await keys.create(OWNER, hash_of("a"), NOW, expires_at=NOW + 10)

    assert keys.find(hash_of("a"), NOW + 9.9) is key
    assert keys.find(hash_of("a"), NOW + 10) is None
    await keys.change(key, NOW + 11, expires_at=NOW + 20)
    assert keys.find(hash_of("a"), NOW + 11) is key


async def test_rotate__twice_within_the_grace__each_secret_ends_at_its_own_time(database: Database) -> None:
    keys = await ApiKeys.open(database)
    key = await keys.create(OWNER, hash_of("a"), NOW)
    await keys.rotate(key, hash_of("b"), NOW, 100)
    await keys.rotate(key, hash_of("c"), NOW + 50, 100)

    for store in (keys, await ApiKeys.open(database)):
        valid = {
            second: {name for name in "abc" if store.find(hash_of(name), NOW + second)} for second in (99, 100, 150)
        }
        assert valid == {99: {"a", "b", "c"}, 100: {"b", "c"}, 150: {"c"}}
    with pytest.raises(KeyRefused, match="in use"):
        await keys.rotate(key, hash_of("a"), NOW, 0)


async def test_budget__over_a_restart__counts_everything_that_the_book_has(database: Database) -> None:
    keys, book = await ApiKeys.open(database), ReceiptBook(database)
    key = await keys.create(OWNER, hash_of("a"), NOW, budget=Amount(35))
    entries = [make_entry(position) for position in range(3)]  # ten base units each
    mine = [replace(entry, key_id=key.id) for entry in entries]
    await asyncio.gather(*(book.append(entry) for entry in mine))
    await book.append(make_entry(3))  # nobody's

    reopened = (await ApiKeys.open(database)).get(key.id, OWNER)
    assert reopened.spent == 30
    reopened.hold(Amount(5))
    with pytest.raises(KeyBudgetExhausted, match="budget of 35, 0 is left"):
        reopened.hold(Amount(1))
    reopened.release(Amount(5))
    reopened.hold(Amount(1))

    rows = await used(database, [mine[0].receipt.session], 0, 100_000, 10)
    assert sorted(rows, key=lambda row: row.key_id) == tally([*mine, make_entry(3)])
    assert [(row.requests, row.cost) for row in rows if row.key_id == key.id] == [(3, 30)]


async def test_budget__over_a_restart__counts_what_awaits_vouchers_too(database: Database) -> None:
    keys, store = await ApiKeys.open(database), AwaitingReceipts(database)
    key = await keys.create(OWNER, hash_of("a"), NOW, budget=Amount(15))
    entry = make_entry(0)  # ten base units
    salts = (entry.prompt_salt, entry.output_salt)
    await store.add(AwaitingReceipt(entry.chain, entry.receipt, entry.signature, *salts, 1, key.id))
    await store.add(
        AwaitingReceipt(entry.chain, replace(entry.receipt, request_id=b"x" * 32), entry.signature, *salts, 2)
    )

    reopened = await ApiKeys.open(database)
    reopened.count_awaiting(await store.of(entry.receipt.session))
    with pytest.raises(KeyBudgetExhausted, match="of 15, 5 is left"):
        reopened.get(key.id, OWNER).hold(Amount(6))


async def test_create__bad_values__are_refused_and_leave_nothing(database: Database) -> None:
    keys = await ApiKeys.open(database)
    for changes in (
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"budget": Amount(-1)},
        {"budget": Amount(2**63)},
        {"expires_at": NOW},
        {"scopes": frozenset[Scope]()},
    ):
        with pytest.raises(InvalidValue):
            await keys.create(OWNER, hash_of("a"), NOW, **changes)
    with pytest.raises(InvalidValue, match="SHA-256"):
        await keys.create(OWNER, b"short", NOW)
    with pytest.raises(KeyRefused, match="at most 256"):
        await keys.create(OWNER, hash_of("a"), NOW, sessions=tuple(n.to_bytes(32, "big") for n in range(257)))
    assert (await ApiKeys.open(database)).of(OWNER) == keys.of(OWNER) == []
    with pytest.raises(KeyUnknown):
        keys.get("key_none", OWNER)


async def test_refresh__after_another_routers_changes__has_them_and_what_was_spent_there(database: Database) -> None:
    here, there = await ApiKeys.open(database), await ApiKeys.open(database)
    key = await there.create(OWNER, hash_of("a"), NOW, budget=Amount(100))
    await here.refresh()
    mine = here.find(hash_of("a"), NOW)
    assert mine == key
    assert mine is not key

    await ReceiptBook(database).append(replace(make_entry(0), key_id=key.id))
    await there.link(key, OWNER, SESSIONS[1])
    await there.rotate(key, hash_of("b"), NOW, 5)
    await there.change(key, NOW, budget=Amount(50))
    await here.refresh()
    assert here.find(hash_of("b"), NOW) is mine
    assert (mine.sessions, mine.budget, mine.spent) == ((SESSIONS[1],), 50, 10)
    assert here.find(hash_of("a"), NOW + 5) is None

    mine.spend(Amount(7))  # its append is under way
    await here.refresh()
    assert mine.spent == 17
    await there.revoke(key, NOW)
    await here.refresh()
    assert here.find(hash_of("b"), NOW) is None


async def test_refresh__more_keys_than_one_statement_takes__reads_them_all(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "_KEYS_AT_ONCE", 2)
    keys = await ApiKeys.open(database)
    for name in "abcde":
        await keys.create(OWNER, hash_of(name), NOW, name=name)
    reopened = await ApiKeys.open(database)
    assert all(reopened.find(hash_of(name), NOW).name == name for name in "abcde")
