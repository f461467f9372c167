"""Any OpenAI-compatible server as the model: llama.cpp's own HTTP server, and real servers that break on purpose."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from tests.support.backends import tool_backend
from tristrata.inference.embedded import EmbeddedRuntime
from tristrata.inference.openai_backend import MAX_EVENT_BYTES, OpenAiRuntime
from tristrata.inference.probe import probe
from tristrata.inference.runtime import BackendUnavailable, Done, RequestRejected, Runtime, TextPiece
from tristrata.protocol.answers import Detail, TaskKind, TokenLogprob, TopLogprob

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUESTION = "What is the capital of Japan?"
ANSWER = "The capital of Japan is Tokyo."
TEXTS = [
    "a b c d e f g",
    "the capital of Japan is Tokyo and the weather is nice today because the summer has come early this year",
    "international organizations responsible environmental protection communities significant development",
    " " * 400,
    "-" * 400,
    "a\n\tb\u00a0c\u3000d\r\ne",
    "日本の首都は東京です。 大阪は 都市です。",
    "Быстрая коричневая лиса прыгает через ленивую собаку",
    "=== --- ***  ;;\n//",
    "def f(x):\n    return x  # comment\n",
    "1 2 3 44 555 6666 🦊 🐉",
    '[{"content":"What is the capital of Japan?","role":"user"}]',
]


@pytest.fixture
async def embedded(smollm2: Path) -> AsyncIterator[EmbeddedRuntime]:
    embedded = EmbeddedRuntime(smollm2, slots=2)
    await embedded.start()
    yield embedded
    await embedded.close()


@pytest.fixture
async def runtime(embedded: EmbeddedRuntime, smollm2: Path) -> AsyncIterator[OpenAiRuntime]:
    async with started(f"{address(embedded)}/v1", model=str(smollm2)) as runtime:
        yield runtime


def address(embedded: EmbeddedRuntime) -> str:
    return str(embedded._server.listening_address)


@asynccontextmanager
async def started(url: str, **options: Any) -> AsyncIterator[OpenAiRuntime]:
    runtime = OpenAiRuntime(url, **{"model": "m", **options})
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.close()


@asynccontextmanager
async def server(chat: Handler, models: Any = None) -> AsyncIterator[str]:
    """The base URL of a server that answers chats with ``chat`` and lists ``models``."""

    async def list_models(_: web.Request) -> web.Response:
        return web.json_response({} if models is None else models)

    app = web.Application()
    app.add_routes([web.get("/v1/models", list_models), web.post("/v1/chat/completions", chat)])
    async with TestServer(app) as running:
        yield str(running.make_url("/v1"))


def streaming(*events: Any, cut: bool = False) -> Handler:
    """A handler that sends ``events``, then ends the answer or, with ``cut``, drops the connection in its middle."""

    async def chat(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(
                event if isinstance(event, bytes) else b"data: " + msgspec.json.encode(event) + b"\n\n"
            )
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response

    return chat


def delta(text: str | None = None, finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]}


def chat_request(text: str = QUESTION, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 40, "temperature": 0, "seed": 7, **options}


async def ask(runtime: Runtime, request: dict[str, Any]) -> tuple[list[TextPiece], Done]:
    pieces = [piece async for piece in runtime.stream(request)]
    *texts, done = pieces
    assert isinstance(done, Done)
    assert all(isinstance(piece, TextPiece) for piece in texts)
    return [piece for piece in texts if isinstance(piece, TextPiece)], done


async def busy_slots(embedded: EmbeddedRuntime) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{address(embedded)}/slots") as response:
        return sum(slot["is_processing"] for slot in await response.json())


async def until_idle(embedded: EmbeddedRuntime) -> None:
    async with asyncio.timeout(10):
        while await busy_slots(embedded):
            await asyncio.sleep(0.02)


async def test_stream__a_question__is_the_embedded_runtimes_answer_and_counts(
    embedded: EmbeddedRuntime, runtime: OpenAiRuntime
) -> None:
    pieces, done = await ask(runtime, chat_request())

    assert "".join(piece.text for piece in pieces) == ANSWER
    assert (pieces, done) == await ask(embedded, chat_request())
    assert done.output_tokens == len(pieces) + 1  # the end token shows no text


async def test_stream__max_tokens_reached__says_length(runtime: OpenAiRuntime) -> None:
    _, done = await ask(runtime, chat_request(max_tokens=3))

    assert (done.finish_reason, done.output_tokens) == ("length", 3)


async def test_stream__many_one_after_another__all_are_answered(runtime: OpenAiRuntime) -> None:
    for _ in range(20):  # llama.cpp drops kept connections; a POST that meets one being dropped is lost
        _, done = await ask(runtime, chat_request(max_tokens=1))
        assert done.output_tokens == 1


async def test_stream__closed_early__stops_the_backend(embedded: EmbeddedRuntime, runtime: OpenAiRuntime) -> None:
    story = chat_request("Write a very long story.", max_tokens=-1, ignore_eos=True)
    async with aclosing(runtime.stream(story)) as pieces:
        await anext(pieces)
        assert await busy_slots(embedded) == 1

    await until_idle(embedded)  # the story has no end: only the closed connection ends it


async def test_stream__reader_cancelled__stops_the_backend(embedded: EmbeddedRuntime, runtime: OpenAiRuntime) -> None:
    reading = asyncio.create_task(ask(runtime, chat_request("Write a story.", max_tokens=-1, ignore_eos=True)))
    async with asyncio.timeout(10):
        while not await busy_slots(embedded):
            await asyncio.sleep(0.02)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await until_idle(embedded)


async def test_stream__prompt_longer_than_the_context__is_refused_in_the_backends_words(runtime: OpenAiRuntime) -> None:
    with pytest.raises(RequestRejected, match="exceeds the available context size"):
        await ask(runtime, chat_request("a " * 9_000))


async def test_stream__no_messages__is_refused(runtime: OpenAiRuntime) -> None:
    for request in ({}, {"messages": []}):
        with pytest.raises(RequestRejected, match="messages is empty"):
            await ask(runtime, request)
        with pytest.raises(RequestRejected, match="messages is empty"):
            await runtime.render(request)


async def test_stream__before_start_and_after_close__is_unavailable(runtime: OpenAiRuntime) -> None:
    await runtime.close()

    for unstarted in (runtime, OpenAiRuntime("http://127.0.0.1/v1", model="m")):
        with pytest.raises(BackendUnavailable) as caught:
            await ask(unstarted, chat_request())
        assert caught.value.remedy


async def test_render__messages__are_canonical_json(runtime: OpenAiRuntime) -> None:
    prompt = await runtime.render({"messages": [{"role": "user", "content": "héllo"}], "seed": 1})

    assert prompt == '[{"content":"héllo","role":"user"}]'


async def test_count_tokens__any_text_or_prompt__is_no_more_than_the_real_tokenizers(
    embedded: EmbeddedRuntime, runtime: OpenAiRuntime
) -> None:
    for text in TEXTS:
        request = chat_request(text)
        assert 1 <= await runtime.count_tokens(text) <= await embedded.count_tokens(text)
        billed = await runtime.count_tokens(await runtime.render(request))
        assert 1 <= billed <= await embedded.count_tokens(await embedded.render(request))


async def test_count_tokens__plain_words__counts_each(runtime: OpenAiRuntime) -> None:
    assert await runtime.count_tokens("The capital of Japan — is Tokyo.") == 6
    assert await runtime.count_tokens("") == 1


async def test_start__nobody_listens__names_the_address() -> None:
    url = f"http://127.0.0.1:{unused_port()}/v1"

    with pytest.raises(BackendUnavailable, match=f"{url}/models: Cannot connect") as caught:
        await OpenAiRuntime(url, model="m").start()

    assert caught.value.remedy


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://127.0.0.1/v1", "nonsense", ""])
async def test_start__not_an_http_address__says_so(url: str) -> None:
    with pytest.raises(BackendUnavailable, match="does not answer at"):
        await OpenAiRuntime(url, model="m").start()


async def test_start__wrong_path_on_a_real_server__says_what_it_answers(embedded: EmbeddedRuntime) -> None:
    with pytest.raises(BackendUnavailable, match=r"answers 404 at .*/wrong/models: .*[Nn]ot [Ff]ound"):
        await OpenAiRuntime(f"{address(embedded)}/wrong", model="m").start()


async def test_start__model_is_not_listed__says_which_are(embedded: EmbeddedRuntime, smollm2: Path) -> None:
    with pytest.raises(BackendUnavailable, match=f"no model 'gpt-9'; it lists {smollm2}"):
        await OpenAiRuntime(f"{address(embedded)}/v1", model="gpt-9").start()


@pytest.mark.parametrize("models", [None, {"data": None}, {"data": []}])
async def test_start__backend_lists_no_models__is_content(models: Any) -> None:
    async with server(streaming(), models) as url, started(url):
        pass


@pytest.mark.parametrize("models", [[], "hello", {"data": [{"name": "m"}]}])
async def test_start__answer_is_no_list_of_models__says_so(models: Any) -> None:
    async with server(streaming(), models) as url:
        with pytest.raises(BackendUnavailable, match="something other than a list of models"):
            await OpenAiRuntime(url, model="m").start()


async def test_start__list_is_too_long__is_unavailable() -> None:
    async with server(streaming(), {"data": [{"id": "x" * MAX_EVENT_BYTES}]}) as url:
        with pytest.raises(BackendUnavailable, match=f"longer than {MAX_EVENT_BYTES}"):
            await OpenAiRuntime(url, model="m").start()


async def test_stream__request__carries_the_key_and_the_backends_name_and_asks_for_usage() -> None:
    seen: dict[str, Any] = {}

    async def chat(request: web.Request) -> web.StreamResponse:
        seen.update(await request.json(), key=request.headers["Authorization"])
        return await streaming(delta("Hi", "stop"))(request)

    async with server(chat) as url, started(url + "/", model="local", api_key="sk-1") as runtime:
        await ask(runtime, chat_request(model="asked", stream=False))

    asked = {"model": "local", "stream": True, "stream_options": {"include_usage": True}, "key": "Bearer sk-1"}
    assert seen == {**chat_request(), **asked}


async def test_stream__no_usage__counts_pieces_and_words() -> None:
    ending = delta("", "stop")
    async with server(streaming(delta("The capital "), delta("is Tokyo."), ending)) as url, started(url) as runtime:
        pieces, done = await ask(runtime, chat_request())

    assert pieces == [TextPiece("The capital ", 1), TextPiece("is Tokyo.", 1)]
    assert done == Done("stop", prompt_tokens=6, output_tokens=2)


async def test_stream__usage_in_every_event_and_comments_between__last_usage_counts() -> None:
    events = [
        b": keep-alive\r\n\r\n",
        {**delta("Hi"), "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
        b"event: message\r\ndata:" + msgspec.json.encode(delta(finish_reason="stop")) + b"\r\n\r\n",
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}},
        b"data: [DONE]\n\n",
        delta("past the end"),
    ]
    async with server(streaming(*events)) as url, started(url) as runtime:
        assert await ask(runtime, chat_request()) == ([TextPiece("Hi", 1)], Done("stop", 9, 3))


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        (streaming(delta("Hi"), cut=True), "ClientPayloadError"),
        (streaming(cut=True), "ClientPayloadError"),
        (streaming(delta("Hi")), "without a finish_reason"),
        (streaming(delta("Hi"), b"data: [DONE]\n\n"), "without a finish_reason"),
        (streaming(delta("Hi"), {"error": {"message": "out of memory", "code": 500}}), "out of memory"),
        (streaming({"error": "out of memory"}), "out of memory"),
        (streaming(delta("Hi"), b"data: {oops\n\n"), "no completion chunk"),
        (
            streaming({"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 1}}),
            "no completion chunk",
        ),
        (streaming(delta("x" * MAX_EVENT_BYTES)), "LineTooLong"),
        (streaming(b"data: " + b"x" * MAX_EVENT_BYTES), "LineTooLong"),
    ],
)
async def test_stream__backend_breaks_off__is_unavailable_and_hides_its_address(chat: Handler, reason: str) -> None:
    async with server(chat) as url, started(url) as runtime:
        with pytest.raises(BackendUnavailable, match=reason) as caught:
            await ask(runtime, chat_request())

    assert url in caught.value.remedy
    assert url.removesuffix("/v1").removeprefix("http://") not in caught.value.message


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (400, '{"error": {"message": "seed is too large"}}', RequestRejected, "seed is too large"),
        (422, '{"detail": "no such field"}', RequestRejected, "no such field"),
        (413, "<h1>Too Large</h1>", RequestRejected, "<h1>Too Large</h1>"),
        (500, '{"error": "out of memory"}', BackendUnavailable, "500: out of memory"),
        (503, "", BackendUnavailable, "503"),
        (307, "elsewhere", BackendUnavailable, "307"),
    ],
)
async def test_stream__status_is_not_200__is_the_right_error(
    status: int, body: str, error: type[Exception], message: str
) -> None:
    async def chat(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={"location": "/v1/models"} if status == 307 else {})

    async with server(chat) as url, started(url) as runtime:
        with pytest.raises(error, match=message):
            await ask(runtime, chat_request())


async def test_stream__backend_stopped_after_start__is_unavailable() -> None:
    async with server(streaming()) as url:
        runtime = OpenAiRuntime(url, model="m")
        await runtime.start()

    with pytest.raises(BackendUnavailable, match="ClientConnectorError"):
        await ask(runtime, chat_request())
    await runtime.close()


async def test_stream__a_completion__is_asked_at_its_own_path(embedded: EmbeddedRuntime, smollm2: Path) -> None:
    request = {"prompt": "The capital of Japan is", "max_tokens": 2, "temperature": 0, "logprobs": 2}
    async with started(f"{address(embedded)}/v1", model=str(smollm2)) as runtime:
        pieces = [piece async for piece in runtime.stream(request, TaskKind.COMPLETION)]
        assert await runtime.render(request, TaskKind.COMPLETION) == "The capital of Japan is"
    assert pieces == [piece async for piece in embedded.stream(request, TaskKind.COMPLETION)]
    assert isinstance(pieces[0], TextPiece)
    assert (pieces[0].text, pieces[-1]) == (" Tokyo", Done("length", 5, 2))


async def test_probe__llama_cpps_server__has_what_the_embedded_runtime_has(runtime: OpenAiRuntime) -> None:
    assert await probe(runtime) == ("json", "logprobs")


async def test_probe__a_backend_that_ignores_what_it_is_asked__has_nothing() -> None:
    async with server(streaming(delta("Hello!"), delta(finish_reason="stop"))) as url, started(url) as runtime:
        assert await probe(runtime) == ()


async def test_probe__a_backend_that_calls_tools__has_tools() -> None:
    async with tool_backend() as (url, _), started(url) as runtime:
        assert await probe(runtime) == ("tools",)


async def test_stream__openais_own_logprobs_of_completions__are_as_those_of_chats() -> None:
    told = {"tokens": [" T", "o"], "token_logprobs": [-1.0, None], "top_logprobs": [{" T": -1.0, "x": -2.0}, None]}
    choice = {"index": 0, "text": " To", "logprobs": told, "finish_reason": "length"}
    app = web.Application()

    async def list_models(_: web.Request) -> web.Response:
        return web.json_response({})

    app.add_routes([web.get("/v1/models", list_models), web.post("/v1/completions", streaming({"choices": [choice]}))])
    async with TestServer(app) as running, started(str(running.make_url("/v1"))) as runtime:
        first, _ = [piece async for piece in runtime.stream({"prompt": "x"}, TaskKind.COMPLETION)]
    assert isinstance(first, TextPiece)
    assert first.detail == Detail(
        (), (TokenLogprob(" T", -1.0, None, (TopLogprob(" T", -1.0), TopLogprob("x", -2.0))), TokenLogprob("o", 0.0))
    )
