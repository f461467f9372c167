from typing import Any

import pytest

from tristrata.router.http import Refusal
from tristrata.router.openai.response_store import KEPT_SECONDS, MAX_BYTES, MAX_PER_OWNER, ResponseStore, StoredResponse

MINE, THEIRS = b"\x01", b"\x02"


def response(name: str, owner: bytes = MINE, text: str = "") -> StoredResponse:
    return StoredResponse(owner, {"id": name, "text": text}, [], [])


def is_kept(store: ResponseStore, name: str, owner: bytes = MINE) -> bool:
    try:
        return store.get(name, owner).body["id"] == name
    except Refusal as refusal:
        assert refusal.status == 404
        return False


def test_get__another_owner__is_not_found() -> None:
    store = ResponseStore()
    store.put(response("a"))
    assert is_kept(store, "a")
    assert not is_kept(store, "a", THEIRS)


def test_get__as_previous_response__is_a_refused_parameter() -> None:
    with pytest.raises(Refusal) as caught:
        ResponseStore().get("a", MINE, "previous_response_id")
    error: dict[str, Any] = caught.value.body["error"]
    assert (caught.value.status, error["code"]) == (400, "previous_response_not_found")


def test_delete__by_its_owner_only__is_gone() -> None:
    store = ResponseStore()
    store.put(response("a"))
    with pytest.raises(Refusal):
        store.delete("a", THEIRS)
    store.delete("a", MINE)
    assert not is_kept(store, "a")


def test_put__too_many_of_one_owner__only_its_own_oldest_go() -> None:
    store = ResponseStore()
    store.put(response("theirs", THEIRS))
    for number in range(MAX_PER_OWNER + 1):
        store.put(response(str(number)))
    assert [is_kept(store, name) for name in ("0", "1", str(MAX_PER_OWNER))] == [False, True, True]
    assert is_kept(store, "theirs", THEIRS)


def test_put__too_many_bytes__the_oldest_go() -> None:
    store, large = ResponseStore(), "x" * (MAX_BYTES // 4)
    for number in range(5):
        store.put(response(str(number), bytes([number]), large))
    assert [is_kept(store, str(number), bytes([number])) for number in range(5)] == [False, False, True, True, True]


def test_get__after_an_hour__is_not_found_and_makes_room() -> None:
    now = 0.0
    store = ResponseStore(lambda: now)
    store.put(response("a"))
    now = KEPT_SECONDS + 1
    assert not is_kept(store, "a")
    store.put(response("b"))
    assert list(store._stored) == ["b"]
