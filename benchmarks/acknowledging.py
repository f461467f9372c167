"""What signatures and hashes cost the router and the miner, for each answer."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.answer import PIECES, PROMPT_TOKENS
from benchmarks.network import (
    HUB,
    MINER,
    MODEL_ID,
    OUTPUT_PRICE,
    PROMPT_PRICE,
    SEPARATOR,
    SESSION_KEY,
    SIGNING_KEY,
    make_session,
)
from benchmarks.report import Section, table
from benchmarks.stats import spread
from tristrata.fabric.frames import Task
from tristrata.protocol import codec
from tristrata.protocol.ids import ModelId, RequestId, SessionId
from tristrata.protocol.receipt import Assurance, Receipt, salted_hash
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.units import Milliseconds, cost_of
from tristrata.protocol.voucher_book import Reserve, VoucherBook, apply
from tristrata.router.acknowledge import acknowledge, check_receipt

_TEXT = "".join(PIECES)
_ACKNOWLEDGE = "router: acknowledge and sign the voucher"


async def measure(*, quick: bool) -> Section:
    """Time each step over a session that grows, in several rounds."""
    answers, rounds = (100, 1) if quick else (1_000, 7)
    timed: dict[str, list[float]] = {}
    book = make_session(0).book
    for _ in range(rounds):
        book = _round(book, answers, timed)
    rows = [[what, spread(costs).text(1)] for what, costs in timed.items()]
    signed = spread(timed[_ACKNOWLEDGE]).text(1)
    body = _BODY.format(
        rounds=rounds, answers=answers, count=book.tree.count, signed=signed, rows=table(["step", "µs"], rows)
    )
    return Section("Signing and acknowledging", [], body)


def make_tasks(answers: int) -> list[tuple[Task, Receipt, bytes]]:
    """Tasks of one session, each with its receipt and the miner's signature."""
    session, made = make_session(0).book.session, []
    for _ in range(answers):
        task = Task(
            request_id=os.urandom(32),
            chain=HUB,
            session=session,
            model_id=MODEL_ID,
            body=b"{}",
            max_output_tokens=64,
            prompt_price=PROMPT_PRICE,
            output_price=OUTPUT_PRICE,
            assurance=Assurance.NONE,
            deadline=0,
            prompt_salt=os.urandom(32),
            output_salt=os.urandom(32),
        )
        receipt = _receipt(task)
        made.append((task, receipt, _sign(receipt)))
    return made


def _round(book: VoucherBook, answers: int, timed: dict[str, list[float]]) -> VoucherBook:
    made = make_tasks(answers)
    receipts = [receipt for _, receipt, _ in made]
    signer = address_of(SIGNING_KEY.public_key)

    def check(item: tuple[Task, Receipt, bytes]) -> None:
        task, receipt, signature = item
        check_receipt(receipt, signature, task, MINER, signer, _TEXT, SEPARATOR)

    def note(what: str, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        started = time.perf_counter()
        results = [work(item) for item in items]
        timed.setdefault(what, []).append((time.perf_counter() - started) / len(items) * 1_000_000)
        return results

    note("miner: hash and sign the receipt", _sign, receipts)
    documents = note("miner: the receipt to JSON", _to_json, receipts)
    note("router: the receipt from JSON", lambda data: codec.receipt_from_json(codec.decode(data)), documents)
    note("router: check the receipt and recover its signer", check, made)
    reserving = paying = 0.0
    for receipt in receipts:
        began = time.perf_counter()
        book, _ = apply(book, Reserve(receipt.request_id, receipt.price))
        reserved = time.perf_counter()
        book = acknowledge(book, receipt, SESSION_KEY, SEPARATOR).book
        reserving, paying = reserving + reserved - began, paying + time.perf_counter() - reserved
    timed.setdefault("router: reserve", []).append(reserving / answers * 1_000_000)
    timed.setdefault(_ACKNOWLEDGE, []).append(paying / answers * 1_000_000)
    return book


def _receipt(task: Task) -> Receipt:
    now = Milliseconds(time.time_ns() // 1_000_000)
    return Receipt(
        session=SessionId(task.session),
        request_id=RequestId(task.request_id),
        miner=MINER,
        model_id=ModelId(task.model_id),
        prompt_hash=salted_hash(task.prompt_salt, "user: Say twenty words, all at once."),
        output_hash=salted_hash(task.output_salt, _TEXT),
        prompt_tokens=PROMPT_TOKENS,
        output_tokens=len(PIECES),
        price=cost_of(PROMPT_TOKENS, len(PIECES), task.prompt_price, task.output_price),
        started_at=now,
        finished_at=now,
        assurance=Assurance(task.assurance),
        evidence=bytes(32),
    )


def _sign(receipt: Receipt) -> bytes:
    return sign(SIGNING_KEY, digest(SEPARATOR, receipt.struct_hash))


def _to_json(receipt: Receipt) -> bytes:
    return codec.encode(codec.receipt_to_json(receipt))


_BODY = """\
What hashes, signatures and checks cost for each answer, in µs of one core: median (lowest – highest) of {rounds} rounds
of {answers:,} answers, in one session that holds {count:,} receipts at the end.

{rows}

To acknowledge is to append the receipt to the session's tree, compute its root (32 hashes), add up the splits, and sign
the voucher: **{signed} µs**. Of the router's steps only the reservation stands before the first token. The miner's do
too where all pieces come at once, as its frames leave together; with the first piece ahead they do not."""
