"""What a tour writes down: every step with its gas and seconds, every answer with its receipt."""

from typing import Any

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One step. ``gas`` is 0 where no transaction was needed; ``detail`` is shown to people."""

    name: str
    chain: str
    gas: int
    seconds: float
    detail: str = ""


class Milestone(msgspec.Struct, frozen=True):
    """How far a receipt has come, in milliseconds after the question was sent; ``gas`` 0 where no chain was asked."""

    name: str
    milliseconds: int
    gas: int = 0


class Answer(msgspec.Struct, frozen=True):
    """One task: question, answer, receipt with its voucher, and how long it all took.

    ``transactions`` counts what was in every block of every chain from the question to the last token.
    """

    hub: str
    prompt: str
    answer: str
    receipt: dict[str, Any]
    first_token_milliseconds: float
    seconds: float
    output_tokens: int
    transactions: int
    milestones: tuple[Milestone, ...]


class Record(msgspec.Struct):
    """A whole tour."""

    steps: list[Step] = []
    tasks: list[Answer] = []

    def encode(self) -> bytes:
        """As the file of ``--json`` holds it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)
