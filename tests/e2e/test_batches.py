"""Files and batches with the official client, a real model and a real queue: each line answered once and paid once."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from openai.types import Batch

from tests.support.world import KEY, MODEL, OWNER, POOR_KEY, QUESTION, SESSION, World, open_world
from tristrata.protocol import codec
from tristrata.protocol.units import Timestamp
from tristrata.router.openai.receipts import RECEIPT_HEADER
from tristrata.storage.receipt_book import BookEntry, BookUnavailable

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT: Any = "/v1/chat/completions"
ASK = {"model": MODEL, "messages": QUESTION, "max_tokens": 8, "temperature": 0, "seed": 7}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("world"), smollm2) as world:
        yield world


def call(name: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


async def upload(client: openai.AsyncOpenAI, calls: list[dict[str, Any]]) -> str:
    content = "\n".join(json.dumps(each) for each in calls).encode()
    return (await client.files.create(file=("calls.jsonl", content), purpose="batch")).id


async def start(client: openai.AsyncOpenAI, calls: list[dict[str, Any]], endpoint: Any = CHAT) -> Batch:
    file = await upload(client, calls)
    return await client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h")


async def ended(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    async with asyncio.timeout(60):
        while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
            await asyncio.sleep(0.1)
            batch = await client.batches.retrieve(batch.id)
    return batch


async def lines(client: openai.AsyncOpenAI, file: str | None) -> dict[str, dict[str, Any]]:
    assert file is not None
    text = (await client.files.content(file)).text
    found = [json.loads(line) for line in text.splitlines()]
    return {line["custom_id"]: line for line in found}


async def test_batch__chats_of_a_file__are_answered_with_receipts_and_paid_once_each(shared: World) -> None:
    client, before = shared.client(), len(await shared.book.entries(SESSION))
    calls = [call(f"ask-{number}", **ASK) for number in range(5)] + [call("two", **ASK, n=2)]

    batch = await start(client, calls)
    assert batch.status == "validating" and batch.metadata is None
    batch = await ended(client, batch)

    assert batch.status == "completed" and batch.errors is None and batch.error_file_id is None
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (6, 6, 0)
    answers = await lines(client, batch.output_file_id)
    assert set(answers) == {each["custom_id"] for each in calls}
    alone = await client.chat.completions.create(**ASK)
    for name, line in answers.items():
        response = line["response"]
        assert line["error"] is None and response["status_code"] == 200
        choices = response["body"]["choices"]
        assert len(choices) == (2 if name == "two" else 1)
        assert choices[0]["message"]["content"] == alone.choices[0].message.content
        assert openai.types.chat.ChatCompletion.model_validate(response["body"]).usage is not None
    entries = (await shared.book.entries(SESSION))[before:-1]
    assert len(entries) == 7
    shown = [
        codec.decode(_unbase64(part))["receipt"]["request_id"]
        for line in answers.values()
        for part in line["response"]["headers"][RECEIPT_HEADER].split(", ")
    ]
    assert sorted(shown) == sorted(f"0x{entry.receipt.request_id.hex()}" for entry in entries)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [("/v1/completions", {"prompt": "The capital of Japan is"}), ("/v1/responses", {"input": "Who are you?"})],
)
async def test_batch__other_endpoints__are_answered(shared: World, endpoint: str, body: dict[str, Any]) -> None:
    client = shared.client()
    batch = await start(client, [call("one", endpoint, model=MODEL, **body)], endpoint)

    batch = await ended(client, batch)

    assert batch.status == "completed", batch
    [line] = (await lines(client, batch.output_file_id)).values()
    assert line["response"]["status_code"] == 200


async def test_batch__some_lines_are_wrong__have_their_errors_in_the_error_file(shared: World) -> None:
    client = shared.client()
    calls = [
        call("good", **ASK),
        call("stream", **ASK, stream=True),
        call("nobody", model="gpt-4", messages=QUESTION),
        call("hot", model=MODEL, messages=QUESTION, temperature=99),
    ]

    batch = await ended(client, await start(client, calls))

    assert batch.status == "completed" and batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 3)
    assert set(await lines(client, batch.output_file_id)) == {"good"}
    errors = await lines(client, batch.error_file_id)
    assert {name: line["response"]["status_code"] for name, line in errors.items()} == {
        "stream": 400,
        "nobody": 404,
        "hot": 400,
    }
    assert errors["hot"]["response"]["body"]["error"]["param"] == "temperature"


async def test_batch__session_without_money__says_so_of_each_line(shared: World) -> None:
    client = shared.client(POOR_KEY)

    batch = await ended(client, await start(client, [call(f"ask-{number}", **ASK) for number in range(12)]))

    errors = await lines(client, batch.error_file_id)
    assert len(errors) == 12
    assert {line["response"]["body"]["error"]["code"] for line in errors.values()} == {"insufficient_quota"}


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"\n\n", "empty_file", None),
        (b'{"custom_id": "a"', "invalid_json_line", 1),
        (json.dumps(call("a", "/v1/embeddings")).encode(), "mismatched_endpoint", 1),
        (json.dumps({**call("a"), "method": "GET"}).encode(), "invalid_method", 1),
        (b"\n".join([json.dumps(call("a", **ASK)).encode()] * 2), "duplicate_custom_id", 2),
        (json.dumps(call("", **ASK)).encode(), "invalid_custom_id", 1),
    ],
)
async def test_batch__file_that_is_none__fails_and_says_where(
    shared: World, content: bytes, code: str, line: int | None
) -> None:
    client, before = shared.client(), len(await shared.book.entries(SESSION))
    file = await client.files.create(file=("calls.jsonl", content), purpose="batch")

    batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    batch = await ended(client, batch)

    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, line)
    assert len(await shared.book.entries(SESSION)) == before


async def test_cancel__batch_that_runs__ends_with_what_was_answered(shared: World) -> None:
    client, before = shared.client(), len(await shared.book.entries(SESSION))
    long = {**ASK, "max_tokens": 60, "messages": [{"role": "user", "content": "Tell me a long story."}]}
    batch = await start(client, [call(f"ask-{number}", **long) for number in range(200)])
    async with asyncio.timeout(60):
        while not (await client.batches.retrieve(batch.id)).request_counts.completed:  # type: ignore[union-attr]
            await asyncio.sleep(0.05)

    cancelling = await client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    batch = await ended(client, cancelling)

    assert batch.status == "cancelled" and batch.cancelled_at is not None
    answers, errors = await lines(client, batch.output_file_id), await lines(client, batch.error_file_id)
    assert len(answers) + len(errors) == 200 and len(errors) > 0
    assert {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}
    assert len(await shared.book.entries(SESSION)) - before == len(answers)
    with pytest.raises(openai.ConflictError, match="cancelled"):
        await client.batches.cancel(batch.id)


async def test_batches__of_another_owner_or_none__are_not_found(shared: World) -> None:
    client = shared.client()
    batch = await start(client, [call("one", **ASK)])
    stranger_key = "sk-tri-stranger"
    await _stranger(shared, stranger_key)
    stranger = shared.client(stranger_key)

    for attempt in (
        stranger.batches.retrieve(batch.id),
        stranger.batches.cancel(batch.id),
        stranger.files.content(batch.input_file_id),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt
    with pytest.raises(openai.BadRequestError, match="input_file_id"):
        await stranger.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")
    assert [each.id async for each in stranger.batches.list()] == []
    assert [each.id async for each in stranger.files.list()] == []
    with pytest.raises(openai.NotFoundError):
        await client.batches.retrieve("batch_none")
    await ended(client, batch)


async def test_list__more_than_a_page__is_followed_by_the_client(shared: World) -> None:
    client = shared.client()
    files = [await upload(client, [call("one", **ASK)]) for _ in range(5)]

    listed = [file.id async for file in client.files.list(limit=2)]

    assert set(files) <= set(listed)
    oldest_first = [file.id async for file in client.files.list(limit=2, order="asc")]
    assert oldest_first == list(reversed(listed))
    assert [file.id async for file in client.files.list(purpose="batch_output", limit=100)]
    deleted = await client.files.delete(files[0])
    assert deleted.deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(files[0])
    with pytest.raises(openai.BadRequestError, match="limit"):
        await client.files.list(limit=0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"completion_window": "1h"}, "completion_window"),
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"metadata": {"a": "x" * 600}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
        ({"wrong": 1}, "wrong"),
    ],
)
async def test_create__what_is_wrong__is_named(shared: World, changes: dict[str, Any], says: str) -> None:
    client = shared.client()
    given = {"input_file_id": await upload(client, [call("one", **ASK)]), "endpoint": CHAT, "completion_window": "24h"}

    with pytest.raises(openai.BadRequestError) as refused:
        await client.post("/batches", cast_to=Batch, body={**given, **changes})

    assert refused.value.param == says or says in refused.value.message


async def test_create__more_open_than_an_owner_may_have__waits(shared: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tristrata.router.openai.batches_api.MAX_OPEN", 0)

    with pytest.raises(openai.RateLimitError, match="not over"):
        await start(shared.client(), [call("one", **ASK)])


async def test_upload__what_is_wrong__is_refused(shared: World) -> None:
    client, headers = shared.client(), {"authorization": f"Bearer {KEY}"}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.files.create(file=("a.jsonl", b"x"), purpose="assistants")
    assert refused.value.param == "purpose"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.files.create(
            file=("a.jsonl", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 1}
        )
    assert refused.value.param == "expires_after.seconds"
    with pytest.raises(openai.APIStatusError) as too_long:
        await client.files.create(file=("a.jsonl", b"x" * (16 * 1_048_576 + 1)), purpose="batch")
    assert too_long.value.status_code == 413
    async with httpx.AsyncClient(base_url=shared.url, headers=headers) as raw:
        for body, kind in (
            (b"{}", "application/json"),
            (b"nothing", "multipart/form-data"),
            (b"nothing", "multipart/form-data; boundary=x"),
            (
                b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
                "multipart/form-data; boundary=x",
            ),
        ):
            answer = await raw.post("/v1/files", content=body, headers={"content-type": kind})
            assert answer.status_code == 400, (body, answer.text)
            assert answer.json()["error"]["message"]


async def test_upload__file_that_expires__says_when(shared: World) -> None:
    client = shared.client()
    file = await client.files.create(
        file=("a.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3_600}
    )

    assert file.expires_at == file.created_at + 3_600
    assert (file.bytes, file.filename, file.purpose, file.status) == (2, "a.jsonl", "batch", "processed")
    assert (await client.files.content(file.id)).content == b"{}"


@pytest.mark.parametrize("is_written", [False, True])
async def test_batch__receipt_book_fails_once__line_is_paid_once(
    shared: World, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    """As when a process dies between an answer that is kept and its receipt in the book, or just after that."""
    client, before = shared.client(), len(await shared.book.entries(SESSION))
    insert, victims = shared.book._insert, []

    async def fail_the_first(entries: Sequence[BookEntry]) -> None:
        requests = [entry.receipt.request_id for entry in entries]
        if not victims:
            victims.append(requests[0])
            if is_written:
                await insert(entries)
        if victims[0] in requests:
            raise BookUnavailable("the disk is full")
        await insert(entries)

    monkeypatch.setattr(shared.book, "_insert", fail_the_first)
    batch = await ended(client, await start(client, [call("one", **ASK), call("two", **ASK, n=2)]))

    assert batch.status == "completed" and victims
    answers = await lines(client, batch.output_file_id)
    assert {line["response"]["status_code"] for line in answers.values()} == {200}
    entries = (await shared.book.entries(SESSION))[before:]
    shown = [
        codec.decode(_unbase64(part))["receipt"]["request_id"]
        for line in answers.values()
        for part in line["response"]["headers"][RECEIPT_HEADER].split(", ")
    ]
    assert sorted(shown) == sorted(f"0x{entry.receipt.request_id.hex()}" for entry in entries)
    assert len(entries) == 3


async def test_batch__key_is_revoked_meanwhile__rest_is_refused_and_not_paid(shared: World) -> None:
    key, before = "sk-tri-short", len(await shared.book.entries(SESSION))
    made = await shared.keys.create(OWNER, sha256(key.encode()).digest(), Timestamp(1), sessions=(SESSION,))
    long = {**ASK, "max_tokens": 60, "messages": [{"role": "user", "content": "Tell me a long story."}]}
    batch = await start(shared.client(key), [call(f"ask-{number}", **long) for number in range(60)])
    client = shared.client()  # the owner's other key sees it too
    async with asyncio.timeout(60):
        while not (await client.batches.retrieve(batch.id)).request_counts.completed:  # type: ignore[union-attr]
            await asyncio.sleep(0.05)

    await shared.keys.revoke(made, Timestamp(2))
    batch = await ended(client, batch)

    answers, errors = await lines(client, batch.output_file_id), await lines(client, batch.error_file_id)
    assert len(answers) + len(errors) == 60 and errors
    assert {line["response"]["status_code"] for line in errors.values()} == {401}
    assert len(await shared.book.entries(SESSION)) - before == len(answers)


async def test_batch__session_with_its_owners_own_key__is_refused(shared: World) -> None:
    rich = shared.sessions.get(SESSION)
    key, rich.key = rich.key, None
    try:
        batch = await ended(shared.client(), await start(shared.client(), [call("one", **ASK)]))
    finally:
        rich.key = key

    [line] = (await lines(shared.client(), batch.error_file_id)).values()
    assert line["response"]["body"]["error"]["code"] == "own_key_session"


async def test_batch__while_it_runs__chats_are_answered(shared: World) -> None:
    client = shared.client()
    long = {**ASK, "max_tokens": 40, "messages": [{"role": "user", "content": "Tell me a long story."}]}
    batch = await start(client, [call(f"ask-{number}", **long) for number in range(40)])

    for _ in range(3):
        answered = False
        async with asyncio.timeout(30):
            while not answered:
                try:
                    await client.chat.completions.create(**ASK)
                    answered = True
                except openai.InternalServerError as error:
                    assert error.code == "no_capacity"

    assert (await client.batches.retrieve(batch.id)).status in ("in_progress", "validating")
    assert (await ended(client, batch)).status == "completed"


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def _stranger(shared: World, key: str) -> None:
    await shared.keys.create(b"\x55" * 20, sha256(key.encode()).digest(), Timestamp(1))
