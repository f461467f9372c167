"""The embedded runtime for embeddings: all-MiniLM-L6-v2, quantised to int8, in ONNX Runtime.

A text's vector is the mean of its tokens' last hidden states, scaled to length 1, as the model's authors use it
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2). Each is one piece: base64 of little-endian float32.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from tristrata.inference.runtime import (
    BackendUnavailable,
    ContextExceeded,
    Done,
    Piece,
    Request,
    RequestRejected,
    TextPiece,
)
from tristrata.protocol.answers import TaskKind

_AT_ONCE = 16


class MiniLmRuntime:
    """One model for embeddings; texts of at most ``context_length`` tokens, the first and last of which are its own."""

    def __init__(self, model: Path, tokenizer: Path, *, context_length: int = 512, threads: int = 1) -> None:
        self._model = model
        self._tokenizer_file = tokenizer
        self._context_length = context_length
        self._threads = threads
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="minilm")
        self._session: Any = None
        self._tokenizer: Any = None

    async def start(self) -> None:
        """Load the model in a thread. Raises `BackendUnavailable`."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._load)

    async def close(self) -> None:
        """Free the model."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._session = None

    async def render(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> str:
        """The texts as a JSON list, without spaces: what ``prompt_hash`` is made of."""
        return msgspec.json.encode(_texts(request, kind)).decode()

    async def count_tokens(self, text: str) -> int:
        """How many tokens a text is to this model, its first and last one included."""
        return len(self._tokenizer.encode(text).ids)

    async def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        """A piece for each text, in order. Raises `ContextExceeded` before the first, or `RequestRejected`."""
        texts = _texts(request, kind)
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._pool, self._tokenise, texts)
        for number, ids in enumerate(tokens):
            if len(ids) > self._context_length:
                raise ContextExceeded(
                    f"This model's maximum context length is {self._context_length} tokens, however input {number} has "
                    f"{len(ids)} tokens."
                )
        # Texts of like length together: padding costs as much as words do.
        order = sorted(range(len(tokens)), key=lambda number: len(tokens[number]))
        vectors: dict[int, str] = {}
        sent = 0
        for first in range(0, len(order), _AT_ONCE):
            group = order[first : first + _AT_ONCE]
            made = await loop.run_in_executor(self._pool, self._embed, [tokens[number] for number in group])
            vectors.update(zip(group, made, strict=True))
            while sent in vectors:
                yield TextPiece(vectors.pop(sent), 0)
                sent += 1
        yield Done("stop", sum(map(len, tokens)), 0)

    def _load(self) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        except Exception as error:  # onnxruntime and tokenizers raise classes of their own
            raise BackendUnavailable(f"the model {self._model} cannot be loaded: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]

    def _embed(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        import numpy

        length = max(map(len, tokens))
        ids = numpy.zeros((len(tokens), length), dtype=numpy.int64)
        mask = numpy.zeros((len(tokens), length), dtype=numpy.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        [states] = self._session.run(None, inputs)
        weights = mask[:, :, None].astype(numpy.float32)
        means = (states * weights).sum(axis=1) / weights.sum(axis=1)
        vectors = (means / numpy.linalg.norm(means, axis=1, keepdims=True)).astype("<f4")
        return [base64.b64encode(vector.tobytes()).decode() for vector in vectors]


def _texts(request: Request, kind: TaskKind) -> list[str]:
    if kind != TaskKind.EMBEDDING:
        raise RequestRejected("this model makes embeddings only")
    return list(request["input"])
