"""Who asks: keys and tokens, and which session pays."""

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from coincurve import PrivateKey
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import make_book
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Caip2
from tristrata.router.callers import Caller, Callers
from tristrata.router.http import Refusal
from tristrata.router.sessions import HubFacts, ServedSession, ServedSessions
from tristrata.storage.api_keys import ApiKeys, Scope
from tristrata.storage.database import Database

OWNER = b"\x77" * 20
MODEL, OTHER_MODEL = b"\x02" * 32, b"\x03" * 32
HUB = HubFacts(Caip2("eip155:31339"), bytes(32), {})


def serve(served: ServedSessions, number: int, *, model: bytes = MODEL, ending: bool = False) -> bytes:
    session = bytes([number]) * 32
    book = make_book()
    book = replace(book, session=session, ending=ending, terms=replace(book.terms, model_id=model))
    served.add(ServedSession(HUB, OWNER, book, PrivateKey()))
    return session


def asks(secret: str = "", **headers: str) -> SimpleNamespace:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(headers={"authorization": f"Bearer {secret}", **headers} if secret else headers)


def test_session_for__several_sessions__is_the_newest_of_the_model_that_is_not_ending() -> None:
    served = ServedSessions()
    first, second = serve(served, 1), serve(served, 2)
    third, fourth = serve(served, 3, ending=True), serve(served, 4, model=OTHER_MODEL)
    caller = Caller(served, OWNER, frozenset(Scope), sessions=(first, second, third, fourth))

    assert caller.session_for(MODEL).book.session == second
    assert caller.session_for(OTHER_MODEL).book.session == fourth
    only_ending = Caller(served, OWNER, frozenset(Scope), sessions=(third,))
    assert only_ending.session_for(MODEL).book.session == third  # which says itself that it is ending
    with pytest.raises(Refusal, match="none of your sessions is for mini") as wrong:
        caller.session_for(b"\x09" * 32, "mini")
    assert wrong.value.status == 400
    with pytest.raises(Refusal, match="no session here") as none:
        Caller(served, OWNER, frozenset(Scope)).session_for(MODEL)
    assert none.value.status == 404


def test_session_for__chosen_by_the_request__is_that_one_or_refused() -> None:
    served = ServedSessions()
    first, second, foreign = serve(served, 1), serve(served, 2), serve(served, 3)

    def choosing(chosen: bytes) -> Caller:
        return Caller(served, OWNER, frozenset(Scope), sessions=(first, second), chosen=chosen)

    assert choosing(first).session_for(MODEL).book.session == first
    with pytest.raises(Refusal, match="is not for"):
        choosing(first).session_for(OTHER_MODEL)
    with pytest.raises(Refusal, match="you have no session") as other:
        choosing(foreign).session_for(MODEL)
    assert other.value.status == 404


async def test_authenticate__keys_and_tokens__tell_who_asks_and_refuse_the_rest(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "keys.sqlite")
    keys, served = await ApiKeys.open(database), ServedSessions()
    session = serve(served, 1)
    secret_hash = sha256(b"sk-tri-x").digest()
    key = await keys.create(OWNER, secret_hash, 5, scopes=frozenset({Scope.READ}), sessions=(session,))
    callers = Callers(keys, served, lambda token, now: OWNER if token == "st-tri-good" else None, lambda: 10.0)

    by_key, by_token = callers.authenticate(asks("sk-tri-x")), callers.authenticate(asks("st-tri-good"))

    assert (by_key.key, by_key.sessions, by_key.name) == (key, (session,), key.id)
    assert (by_token.key, by_token.sessions, by_token.name) == (None, (session,), "0x" + "77" * 20)
    by_token.require(Scope.ADMIN)
    with pytest.raises(Refusal, match="'admin'; the key has read") as scope:
        by_key.require(Scope.ADMIN)
    assert scope.value.status == 403
    named = callers.authenticate(asks("sk-tri-x", x_tristrata_session="0x" + session.hex()))
    assert named.chosen == session
    for bad in (asks(), asks("sk-tri-y"), asks("st-tri-bad"), SimpleNamespace(headers={"authorization": "Basic x"})):
        with pytest.raises(Refusal) as refused:
            callers.authenticate(bad)
        assert refused.value.status == 401
    with pytest.raises(InvalidValue, match="x-tristrata-session"):
        callers.authenticate(asks("sk-tri-x", x_tristrata_session="mine"))
    await database.close()
