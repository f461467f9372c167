"""What a tour writes down, every step and every answer, and where it is seen."""

from typing import Any, Protocol

import msgspec

from tristrata.protocol.errors import TristrataError


class Step(msgspec.Struct, frozen=True):
    """One step. ``gas`` is 0 where no transaction was needed; ``detail`` is shown to people.

    ``seconds`` is `None` for what happened beside other steps.
    """

    name: str
    chain: str
    gas: int
    seconds: float | None
    detail: str = ""


class Milestone(msgspec.Struct, frozen=True):
    """How far a receipt has come, in milliseconds after the question was sent; ``gas`` 0 where no chain was asked."""

    name: str
    milliseconds: int
    gas: int = 0


class Answer(msgspec.Struct, frozen=True):
    """One task: question, answer, receipt with its voucher, and how long it all took.

    ``asked_at`` is Unix seconds. ``path`` is the receipt file, with its way to Ethereum, and ``l1_tx`` the transaction
    that put its root there.
    """

    hub: str
    prompt: str
    answer: str
    receipt: dict[str, Any]
    asked_at: float
    first_token_milliseconds: float
    seconds: float
    output_tokens: int
    milestones: tuple[Milestone, ...]
    path: dict[str, Any] | None = None
    l1_tx: str | None = None


class Record(msgspec.Struct):
    """A whole tour."""

    steps: list[Step] = []
    tasks: list[Answer] = []

    def encode(self) -> bytes:
        """As the file of ``--json`` holds it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


class TourBroken(TristrataError):
    """Something did not happen that must."""


class Screen(Protocol):
    """Where the tour is seen."""

    def step(self, step: Step) -> None:
        """A step is done."""

    def question(self, hub: str, prompt: str) -> None:
        """A question goes out."""

    def piece(self, text: str) -> None:
        """A piece of its answer."""

    def milestone(self, milestone: Milestone) -> None:
        """The answer's receipt has come further."""

    def answered(self, answer: Answer) -> None:
        """The answer is complete, checked and charged."""

    def climbing(self, answers: list[Answer]) -> None:
        """How far each receipt has come by now."""

    def say(self, text: str) -> None:
        """A line of its own."""
