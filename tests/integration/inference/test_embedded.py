"""The real model, in this process."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tristrata.inference.embedded import EmbeddedRuntime
from tristrata.inference.gguf import read_metadata, template_digest, tokenizer_digest
from tristrata.inference.probe import probe
from tristrata.inference.runtime import BackendUnavailable, Done, RequestRejected, TextPiece
from tristrata.inference.weights import SMOLLM2
from tristrata.protocol.answers import TaskKind


@pytest.fixture
async def runtime(smollm2: Path) -> AsyncIterator[EmbeddedRuntime]:
    runtime = EmbeddedRuntime(smollm2, slots=2)
    await runtime.start()
    yield runtime
    await runtime.close()


def chat(text: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 40, "temperature": 0, "seed": 7, **options}


async def ask(runtime: EmbeddedRuntime, request: dict[str, Any]) -> tuple[str, int, Done]:
    text, pieces, done = "", 0, None
    async for piece in runtime.stream(request):
        if isinstance(piece, TextPiece):
            text += piece.text
            pieces += piece.tokens
        else:
            done = piece
    assert done is not None
    return text, pieces, done


def test_weights__digests_of_tokenizer_and_template__are_the_files_own(smollm2: Path) -> None:
    metadata = read_metadata(smollm2)

    assert tokenizer_digest(metadata).hex() == SMOLLM2.tokenizer_sha256
    assert template_digest(metadata).hex() == SMOLLM2.template_sha256


async def test_stream__a_question__answers_and_counts(runtime: EmbeddedRuntime) -> None:
    text, pieces, done = await ask(runtime, chat("What is the capital of Japan?"))

    assert "Tokyo" in text
    assert done.finish_reason == "stop"
    assert pieces <= done.output_tokens <= pieces + 1  # the end token shows no text
    assert done.prompt_tokens > 10


async def test_stream__same_seed__is_the_same_text_alone_and_beside_another(runtime: EmbeddedRuntime) -> None:
    warm = chat("Name three colours.", temperature=0.8)
    alone, _, _ = await ask(runtime, warm)
    (beside, _, _), _ = await asyncio.gather(ask(runtime, warm), ask(runtime, chat("Tell a story.")))

    assert alone == beside


async def test_stream__closed_early__frees_the_slot(runtime: EmbeddedRuntime) -> None:
    for _ in range(2):
        stream = runtime.stream(chat("Write a very long story.", max_tokens=-1, ignore_eos=True))
        await anext(aiter(stream))
        await stream.aclose()

    async with asyncio.timeout(60):  # a slot that is not free would never answer: the stories have no end
        _, _, done = await ask(runtime, chat("Hi", max_tokens=2))
    assert done.output_tokens == 2


async def test_stream__no_messages_or_too_long__is_refused(runtime: EmbeddedRuntime) -> None:
    for request in ({"messages": []}, chat("a " * 9_000)):
        with pytest.raises(RequestRejected):
            await ask(runtime, request)


async def test_render__messages__is_the_prompt_with_the_templates_own_system_prompt(runtime: EmbeddedRuntime) -> None:
    prompt = await runtime.render(chat("hi"))

    assert "You are a helpful AI assistant" in prompt
    assert prompt.endswith("<|im_start|>assistant\n")


async def test_start__not_a_model__says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))

    with pytest.raises(BackendUnavailable, match="cannot be loaded"):
        await EmbeddedRuntime(broken, slots=1).start()


async def test_stream__a_completion__goes_on_with_the_prompt_as_it_is(runtime: EmbeddedRuntime) -> None:
    request = {"prompt": "The capital of Japan is", "max_tokens": 2, "temperature": 0, "logprobs": 2}
    pieces = [piece async for piece in runtime.stream(request, TaskKind.COMPLETION)]

    *said, done = pieces
    assert "".join(piece.text for piece in said if isinstance(piece, TextPiece)) == " Tokyo."
    assert done == Done("length", 5, 2)
    first = said[0]
    assert isinstance(first, TextPiece)
    assert first.detail is not None
    [token] = first.detail.logprobs
    assert (token.token, [top.token for top in token.top_logprobs]) == (" Tokyo", [" Tokyo", " the"])
    assert await runtime.render(request, TaskKind.COMPLETION) == "The capital of Japan is"


async def test_stream__a_schema_that_is_none__is_refused_in_llama_cpps_words(runtime: EmbeddedRuntime) -> None:
    nonsense = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(RequestRejected, match="unrecognized type nonsense"):
        await ask(runtime, chat("x", response_format=nonsense))


async def test_probe__smollm2__keeps_to_schemas_and_tells_logprobs_but_calls_no_tools(
    runtime: EmbeddedRuntime,
) -> None:
    assert await probe(runtime) == ("json", "logprobs")
