"""The embedding model itself, against its definition and against what it is for."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import numpy
import pytest
import uv

from tristrata.config.paths import cache_home
from tristrata.inference.minilm import MiniLmRuntime
from tristrata.inference.runtime import ContextExceeded, Done, RequestRejected, TextPiece
from tristrata.inference.weights import MINILM, fetch, path_of
from tristrata.protocol.answers import TaskKind

TEXTS = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose again in May."]


@pytest.fixture(scope="module")
def files() -> tuple[Path, Path]:
    assert MINILM.tokenizer is not None
    return fetch(MINILM, cache_home(), uv.find_uv_bin()), path_of(MINILM.tokenizer, cache_home())


@pytest.fixture
async def runtime(files: tuple[Path, Path]) -> AsyncIterator[MiniLmRuntime]:
    runtime = MiniLmRuntime(*files, context_length=64)
    await runtime.start()
    yield runtime
    await runtime.close()


async def embed(runtime: MiniLmRuntime, texts: list[str]) -> tuple[numpy.ndarray, Done]:
    pieces = [piece async for piece in runtime.stream({"input": texts}, TaskKind.EMBEDDING)]
    done = pieces.pop()
    assert isinstance(done, Done)
    assert all(isinstance(piece, TextPiece) for piece in pieces)
    vectors = [numpy.frombuffer(base64.b64decode(piece.text), "<f4") for piece in pieces]
    return numpy.stack(vectors), done


async def test_stream__three_texts__likeness_of_meaning_is_nearness(runtime: MiniLmRuntime) -> None:
    vectors, done = await embed(runtime, TEXTS)
    alike, other = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])

    assert vectors.shape == (3, 384)
    assert numpy.allclose(numpy.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert alike > 0.5 > 0.2 > other
    assert done.prompt_tokens == sum([await runtime.count_tokens(text) for text in TEXTS])
    assert done.output_tokens == 0


async def test_stream__many_of_all_lengths__are_in_order_and_as_if_each_were_alone(runtime: MiniLmRuntime) -> None:
    texts = [f"{'word ' * (number % 17)}number {number}" for number in range(40)]
    together, _ = await embed(runtime, texts)
    alone = numpy.concatenate([(await embed(runtime, [text]))[0] for text in texts])

    # int8 activations are scaled by the batch's largest: padding moves a vector a little.
    assert numpy.min(numpy.sum(together * alone, axis=1)) > 0.98
    again, _ = await embed(runtime, texts)
    assert numpy.array_equal(together, again)


async def test_stream__one_text__is_the_mean_of_its_tokens_states_scaled_to_length_one(
    runtime: MiniLmRuntime, files: tuple[Path, Path]
) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files[1]))
    tokenizer.no_padding()
    ids = numpy.array([tokenizer.encode(TEXTS[0]).ids])
    session = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    inputs = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
    mean = session.run(None, inputs)[0][0].mean(axis=0)

    [vector], _ = await embed(runtime, TEXTS[:1])
    assert numpy.allclose(vector, mean / numpy.linalg.norm(mean), atol=1e-5)


async def test_stream__too_long_or_not_for_it__is_refused_before_anything_comes(runtime: MiniLmRuntime) -> None:
    with pytest.raises(ContextExceeded, match="input 1 has 102 tokens"):
        await embed(runtime, ["short", "word " * 100])
    with pytest.raises(RequestRejected, match="embeddings only"):
        await anext(runtime.stream({"messages": []}, TaskKind.CHAT))
