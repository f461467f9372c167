"""What routers and miners say to each other: tagged structs in MessagePack, bounded and checked where they arrive."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from tristrata.protocol.answers import JSON, LOGPROBS, TOOLS, TaskKind
from tristrata.protocol.decoding import UNDECODABLE
from tristrata.protocol.errors import TristrataError

MAX_FRAME_BYTES = 4 * 1_048_576
FEATURES = frozenset({TOOLS, JSON, LOGPROBS})
"""What a runtime may be able to do beyond plain text."""

MAX_OFFERS, MAX_SLOTS = 256, 1_024
REQUEST_REJECTED, CONTEXT_EXCEEDED = "rejected", "context"
"""The codes of a `Failure` that every miner would give: the model cannot answer this, or its context is too short."""


class FrameInvalid(TristrataError):
    """A message on the fabric that is not a frame of the expected kind."""


class Frame(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """The root of all frames."""


class Task(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """Answer this. Prices are base units per 1,000,000 tokens, ``deadline`` Unix milliseconds.

    The salts make the receipt's hashes; ``body`` is the checked request as JSON; ``assurance`` is the session's.
    """

    request_id: bytes
    chain: str
    session: bytes
    model_id: bytes
    body: bytes
    max_output_tokens: int
    prompt_price: int
    output_price: int
    assurance: int
    deadline: int
    prompt_salt: bytes
    output_salt: bytes
    kind: TaskKind = TaskKind.CHAT


class Accepted(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """The miner has begun."""


class Delta(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """A piece of the answer, and how many tokens it took. ``detail`` is a `Detail` as JSON, mostly empty."""

    text: str
    tokens: int
    detail: bytes = b""


class Finish(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """The end of an answer: why, and the signed receipt."""

    finish_reason: str
    receipt: bytes
    signature: bytes


class Failure(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """No answer, or no more of it; nothing is owed."""

    code: str
    message: str


class Cancel(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """Nobody waits for this answer any more."""

    request_id: bytes


class VoucherNotice(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """A voucher that pays the miner, with its splits and signature, as `tristrata.protocol.codec` writes them."""

    chain: str
    voucher: bytes


class Offer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A model that a miner serves on a hub, at prices in base units per 1,000,000 tokens.

    ``features`` are those of `FEATURES` that its runtime has.
    """

    chain: str
    model_id: bytes
    prompt_price: int
    output_price: int
    features: tuple[str, ...] = ()


class Status(Frame, frozen=True, tag=True, array_like=True, gc=False):
    """How a miner is. ``speed`` is measured output tokens a second, 0 before its first answer.

    ``run`` is random at each start of the miner's process: another one means that what it was doing is lost.
    """

    miner: bytes
    run: bytes
    offers: tuple[Offer, ...]
    slots: int
    busy: int
    region: str
    speed: float
    draining: bool

    @property
    def is_sane(self) -> bool:
        """Whether a router can use it: bounded, one offer a hub and model, no negative or infinite number."""
        places = {(offer.chain, offer.model_id) for offer in self.offers}
        return (
            len(places) == len(self.offers) <= MAX_OFFERS
            and 0 < self.slots <= MAX_SLOTS
            and self.busy >= 0
            and 0 <= self.speed < 1e9
            and all(offer.prompt_price >= 0 and offer.output_price >= 0 for offer in self.offers)
        )


FrameType = TypeVar("FrameType", bound=Frame)
Reply = Accepted | Delta | Finish | Failure
_encoder = msgspec.msgpack.Encoder()
_replies_decoder: msgspec.msgpack.Decoder[list[Reply]] = msgspec.msgpack.Decoder(list[Reply])


def encode(frame: Frame) -> bytes:
    """A frame as it travels."""
    return _encoder.encode(frame)


def encode_replies(frames: Sequence[Reply]) -> bytes:
    """The frames of an answer that are ready now, as they travel: together, in one message."""
    return _encoder.encode(frames)


def decode_replies(data: bytes) -> list[Reply]:
    """The frames of an answer in one message. Raises `FrameInvalid`."""
    try:
        return _replies_decoder.decode(data)
    except UNDECODABLE as error:
        raise FrameInvalid(f"a reply of {len(data)} bytes is not a list of frames: {error}") from error


def decode(data: bytes, kind: type[FrameType]) -> FrameType:
    """A frame of one ``kind``. Raises `FrameInvalid`."""
    if len(data) > MAX_FRAME_BYTES:
        raise FrameInvalid(f"a frame of {len(data)} bytes is longer than {MAX_FRAME_BYTES}")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except UNDECODABLE as error:
        raise FrameInvalid(f"a message of {len(data)} bytes is not a {kind.__name__}: {error}") from error
