"""The path of one answer without its edges: task, real model, signed receipt, every check, signed voucher."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import ROUTER, SESSION, make_book
from tristrata.fabric.frames import CONTEXT_EXCEEDED, Accepted, Delta, Failure, Finish, Reply, Task
from tristrata.inference.embedded import EmbeddedRuntime
from tristrata.inference.weights import SMOLLM2
from tristrata.miner.tasks import CANCELLED, Worker
from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidSignature
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, chain_ref, eip155
from tristrata.protocol.receipt import Receipt, salted_hash
from tristrata.protocol.signing import Domain, address_of, digest, require_signer, sign
from tristrata.protocol.units import Amount, share_of
from tristrata.protocol.voucher_book import ReceiptRefused, Reserve, apply
from tristrata.router.acknowledge import ReceiptWrong, acknowledge, check_receipt

HUB = eip155(31_339)
SEPARATOR = Domain(HUB, chain_ref(HUB), Address(b"\x0c" * 20)).separator
MINER = Address(b"\x0d" * 20)
SIGNING_KEY, SESSION_KEY = PrivateKey(keccak(b"signs receipts")), PrivateKey(keccak(b"signs vouchers"))
REQUEST = b"\x0e" * 32


@pytest.fixture
async def worker(smollm2: Path) -> AsyncIterator[Worker]:
    runtime = EmbeddedRuntime(smollm2, slots=2)
    await runtime.start()
    yield Worker(runtime, MINER, SIGNING_KEY, {HUB: SEPARATOR})
    await runtime.close()


def make_task(text: str, **options: Any) -> Task:
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "seed": 7, **options}
    return Task(
        request_id=REQUEST,
        chain=HUB,
        session=SESSION,
        model_id=SMOLLM2.model_id,
        body=msgspec.json.encode(body),
        max_output_tokens=40,
        prompt_price=50_000,
        output_price=200_000,
        assurance=0,
        deadline=2**60,
        prompt_salt=b"\x01" * 32,
        output_salt=b"\x02" * 32,
    )


async def run(worker: Worker, task: Task) -> list[Reply]:
    return [frame async for frame in worker.answer(task)]


def receipt_in(frame: Reply) -> tuple[Receipt, bytes, str]:
    assert isinstance(frame, Finish)
    return codec.receipt_from_json(codec.decode(frame.receipt)), frame.signature, frame.finish_reason


def seen(frames: list[Reply]) -> str:
    return "".join(frame.text for frame in frames if isinstance(frame, Delta))


async def test_answer__real_model__ends_in_a_voucher_that_pays_miner_and_router(worker: Worker) -> None:
    task = make_task("What is the capital of Japan?")
    frames = await run(worker, task)
    receipt, signature, reason = receipt_in(frames[-1])

    assert isinstance(frames[0], Accepted)
    assert (seen(frames), reason) == ("The capital of Japan is Tokyo.", "stop")
    check_receipt(receipt, signature, task, MINER, address_of(SIGNING_KEY.public_key), seen(frames), SEPARATOR)

    book, _ = apply(make_book(), Reserve(REQUEST, Amount(1_000)))
    done = acknowledge(book, receipt, SESSION_KEY, SEPARATOR)
    require_signer(
        digest(SEPARATOR, done.voucher.voucher.struct_hash),
        done.voucher.signature,
        address_of(SESSION_KEY.public_key),
        "the voucher",
    )
    share = share_of(receipt.price, book.terms.router_bps)
    expected = {ROUTER: share, MINER: receipt.price - share}
    assert {split.payee: split.amount for split in done.voucher.splits} == {
        payee: amount for payee, amount in expected.items() if amount
    }
    assert (done.position, done.book.in_flight) == (0, 0)


async def test_answer__pieces_of_several_tokens__are_paid_as_counted(worker: Worker) -> None:
    task = make_task("Repeat exactly: 日本語、日本語、日本語")
    frames = await run(worker, task)
    receipt, signature, _ = receipt_in(frames[-1])

    assert receipt.output_tokens > sum(isinstance(frame, Delta) for frame in frames) + 1
    check_receipt(receipt, signature, task, MINER, address_of(SIGNING_KEY.public_key), seen(frames), SEPARATOR)


async def test_answer__cancelled__bills_what_was_streamed(worker: Worker) -> None:
    task = replace(make_task("Tell me a very long story."), max_output_tokens=1_000)
    frames: list[Reply] = []
    async for frame in worker.answer(task):
        frames.append(frame)
        if sum(isinstance(known, Delta) for known in frames) == 3:
            worker.cancel(REQUEST)
    receipt, signature, reason = receipt_in(frames[-1])

    assert reason == CANCELLED
    assert receipt.output_tokens == sum(isinstance(frame, Delta) for frame in frames) <= 4
    assert receipt.prompt_tokens > 10
    check_receipt(receipt, signature, task, MINER, address_of(SIGNING_KEY.public_key), seen(frames), SEPARATOR)


async def test_answer__prompt_longer_than_the_context__fails_and_owes_nothing(worker: Worker) -> None:
    [*_, failure] = await run(worker, make_task("a " * 9_000))

    assert isinstance(failure, Failure)
    assert failure.code == CONTEXT_EXCEEDED


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"request_id": b"\x0f" * 32}, "request"),
        ({"session": b"\x0f" * 32}, "session"),
        ({"model_id": b"\x0f" * 32}, "model"),
        ({"miner": Address(b"\x0f" * 20)}, "miner"),
        ({"assurance": 1}, "assurance"),
        ({"price": Amount(10**9)}, "price"),
        ({"prompt_tokens": 10_000, "price": Amount(501)}, "prompt tokens"),
        ({"output_tokens": 5, "price": Amount(2)}, "output tokens"),
        ({"output_hash": bytes(32)}, "output hash"),
    ],
)
def test_check_receipt__miner_lies__is_named_and_unpaid(change: dict[str, Any], rule: str) -> None:
    task = make_task("hi")
    streamed = "Hi!"
    honest = Receipt(
        session=SESSION,
        request_id=REQUEST,
        miner=MINER,
        model_id=SMOLLM2.model_id,
        prompt_hash=bytes(32),
        output_hash=salted_hash(task.output_salt, "Hi!"),
        prompt_tokens=10,
        output_tokens=3,
        price=Amount(2),
        started_at=1,
        finished_at=2,
        assurance=0,
        evidence=bytes(32),
    )
    signer = address_of(SIGNING_KEY.public_key)

    def check(receipt: Receipt, key: PrivateKey = SIGNING_KEY) -> None:
        signature = sign(key, digest(SEPARATOR, receipt.struct_hash))
        check_receipt(receipt, signature, task, MINER, signer, streamed, SEPARATOR)

    check(honest)
    with pytest.raises(ReceiptWrong, match=rule):
        check(replace(honest, **change))
    with pytest.raises(InvalidSignature):
        check(honest, SESSION_KEY)
    with pytest.raises(ReceiptRefused):  # it reserved less than the receipt asks for
        acknowledge(apply(make_book(), Reserve(REQUEST, Amount(1)))[0], honest, SESSION_KEY, SEPARATOR)
