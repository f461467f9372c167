"""The one answer that every path streams: 20 pieces at once, in OpenAI's chunks."""

import json

MODEL = "stub"
PIECES = tuple(f" word{number:02}" for number in range(20))
PROMPT_TOKENS = 12
MESSAGES = [{"role": "user", "content": "Say twenty words, all at once."}]
AHEAD_SEED, AHEAD_SECONDS = 1, 0.003
"""A request with this seed gets its first piece so long before the others, as from a model that is still computing."""

PACED_SEED, PACE_SECONDS = 2, 0.02
"""A request with this seed gets its pieces so far apart, as from a model that gives 50 tokens a second."""

APART_SEED = 3
"""A request with this seed gets its pieces one by one, each sent by itself, without a pause."""

PAUSES = {PACED_SEED: PACE_SECONDS, APART_SEED: 0.0}
"""Seconds between pieces, by seed; with no such seed they are sent together."""

CONTENT_MARK = b'"content":'
DONE_MARK = b"data: [DONE]\n\n"
RECEIPT_MARK = b"event: tristrata.receipt\n"


def request_body(*, seed: int | None = None, stream: bool = True) -> bytes:
    """The chat request, as JSON; the seeds above ask the stub model to take its time."""
    request = {"model": MODEL, "messages": MESSAGES, "max_tokens": 64, "stream": stream}
    return json.dumps(request if seed is None else {**request, "seed": seed}).encode()


def events() -> list[bytes]:
    """The answer as server-sent events, as long as the router's own."""
    head = {"id": "chatcmpl-" + "0" * 64, "object": "chat.completion.chunk", "created": 1_700_000_000, "model": MODEL}
    deltas = [{"role": "assistant", "content": PIECES[0]}, *({"content": piece} for piece in PIECES[1:]), {}]
    reasons = [None] * len(PIECES) + ["stop"]
    chunks = [
        {**head, "choices": [{"index": 0, "logprobs": None, "finish_reason": reason, "delta": delta}]}
        for delta, reason in zip(deltas, reasons, strict=True)
    ]
    return [*(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n" for chunk in chunks), DONE_MARK]


def whole() -> bytes:
    """The same answer in one JSON document, as it is when nobody asks for a stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "".join(PIECES)}, "finish_reason": "stop"}
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": len(PIECES),
        "total_tokens": PROMPT_TOKENS + len(PIECES),
    }
    head = {"id": "chatcmpl-" + "0" * 64, "object": "chat.completion", "created": 1_700_000_000, "model": MODEL}
    return json.dumps({**head, "choices": [choice], "usage": usage}, separators=(",", ":")).encode()
