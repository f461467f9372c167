"""A session whose key is here, against a router that computes as the real one does and then forgets, dies or lies."""

from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import MINERS, SESSION, make_terms
from tristrata.client.api import RouterUnreachable
from tristrata.client.checks import ReceiptBroken
from tristrata.client.own_session import Answered, OwnSession, RouterDiverges
from tristrata.custody.limits import LimitReached, SigningLimits
from tristrata.protocol import codec
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, chain_ref, eip155, show
from tristrata.protocol.receipt import Assurance, Receipt, salted_hash
from tristrata.protocol.signing import Domain, address_of, digest, require_signer, sign
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.protocol.voucher_book import Acknowledge, Reserve, VoucherBook, apply

HUB = eip155(31_339)
DOMAIN = Domain(HUB, chain_ref(HUB), Address(b"\x0c" * 20))
KEY, MINER_KEY = PrivateKey(keccak(b"the session's")), PrivateKey(keccak(b"the miner's"))
TERMS = replace(make_terms(exposure_cap=10**9), session_key=address_of(KEY.public_key))
LIMITS = SigningLimits(Amount(1_000))
SALT = b"\x05" * 32


class Record:
    terms, deposit = TERMS, Amount(10**6)


class MinerRecord:
    signing_key = address_of(MINER_KEY.public_key)


class FakeChain:
    async def block(self, _: object) -> Any:
        return type("Block", (), {"number": 1})()


class FakeHub:
    """What a session asks of a hub."""

    name, chain, settlement_domain = "hub", FakeChain(), DOMAIN

    async def session(self, _: bytes, *, at: int) -> Any:
        return Record()

    async def miner(self, _: bytes, *, at: int) -> Any:
        return MinerRecord()


class FakeRouter:
    """Keeps awaiting receipts, and takes vouchers as the real one does; may lose what it is sent."""

    def __init__(self) -> None:
        self.book = VoucherBook(session=SESSION, terms=TERMS, deposit=Amount(10**6))
        self.waiting: dict[bytes, Receipt] = {}
        self.is_dead = False

    def answer(self, number: int, text: str, *, price: int = 10, signer: PrivateKey = MINER_KEY, **lies: Any) -> bytes:
        request = number.to_bytes(32, "big")
        receipt = Receipt(
            session=SESSION,
            request_id=request,
            miner=MINERS[0],
            model_id=TERMS.model_id,
            prompt_hash=bytes(32),
            output_hash=salted_hash(SALT, text),
            prompt_tokens=5,
            output_tokens=2,
            price=Amount(price),
            started_at=Milliseconds(1),
            finished_at=Milliseconds(2),
            assurance=Assurance.NONE,
            evidence=bytes(32),
        )
        self.waiting[request] = replace(receipt, **lies)
        self.signer = signer
        return request

    async def session(self, _: bytes) -> dict[str, Any]:
        return {"count": self.book.tree.count, "head": show(self.book.tree.root)}

    async def awaiting(self, _: bytes) -> list[dict[str, Any]]:
        return [
            {
                "receipt": codec.receipt_to_json(receipt),
                "signature": show(sign(self.signer, digest(DOMAIN.separator, receipt.struct_hash))),
                "salts": {"output": show(SALT)},
            }
            for receipt in self.waiting.values()
        ]

    async def send_vouchers(self, _: bytes, signatures: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        if self.is_dead:
            raise RouterUnreachable("it died before it took them")
        for request, signature in signatures:
            receipt = self.waiting.pop(request)
            self.book, _ = apply(self.book, Reserve(request, receipt.price))
            self.book, [due] = apply(self.book, Acknowledge(receipt))
            signer = address_of(KEY.public_key)
            require_signer(digest(DOMAIN.separator, due.voucher.struct_hash), signature, signer, "the voucher")
        return {}


async def opened(path: Path, limits: SigningLimits = LIMITS) -> OwnSession:
    return await OwnSession.open(FakeHub(), SESSION, KEY, limits, path)  # type: ignore[arg-type]


async def test_pay__answers_that_were_seen__are_checked_and_paid(tmp_path: Path) -> None:
    router, session = FakeRouter(), await opened(tmp_path / "log")
    for number in range(3):
        session.saw(router.answer(number, f"answer {number}"), Answered(f"answer {number}", 40))

    assert await session.pay(router) == 3  # type: ignore[arg-type]
    assert router.book.cumulative == session.spent.total == 30
    assert await session.pay(router) == 0  # type: ignore[arg-type]


async def test_pay__killed_after_signing_before_sending__the_same_vouchers_are_sent_after_a_restart(
    tmp_path: Path,
) -> None:
    router, session = FakeRouter(), await opened(tmp_path / "log")
    session.saw(router.answer(0, "a"), Answered("a", 40))
    router.is_dead = True
    with pytest.raises(RouterUnreachable):
        await session.pay(router)  # type: ignore[arg-type]

    router.is_dead = False
    again = await opened(tmp_path / "log")
    assert again.book == session.book
    session.saw(router.answer(1, "b"), Answered("b", 40))
    again = await opened(tmp_path / "log")
    assert await again.pay(router) == 1  # type: ignore[arg-type]
    assert (router.book.tree.count, router.book.cumulative, again.spent.total) == (2, 20, 20)


async def test_open__power_went_while_a_line_was_written__the_rest_counts(tmp_path: Path) -> None:
    router, session = FakeRouter(), await opened(tmp_path / "log")
    session.saw(router.answer(0, "a"), Answered("a", 40))
    await session.pay(router)  # type: ignore[arg-type]
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole + b'{"request_id":"0x')

    again = await opened(tmp_path / "log")
    assert again.book == session.book
    again.saw(router.answer(1, "b"), Answered("b", 40))
    assert (await opened(tmp_path / "log")).book == session.book


@pytest.mark.parametrize(
    ("lies", "part"),
    [
        ({"output_hash": keccak(b"another text")}, "the text of its answer"),
        ({"output_tokens": 100}, "output tokens"),
        ({"prompt_tokens": 10_000}, "prompt tokens"),
        ({"model_id": b"\x66" * 32}, "its model"),
        ({"session": b"\x67" * 32}, "its session"),
    ],
)
async def test_pay__receipt_does_not_match__is_not_paid_and_the_others_are(
    tmp_path: Path, lies: dict[str, Any], part: str
) -> None:
    router, session = FakeRouter(), await opened(tmp_path / "log")
    session.saw(router.answer(0, "honest"), Answered("honest", 40))
    session.saw(router.answer(1, "text", **lies), Answered("text", 40))

    with pytest.raises(ReceiptBroken, match=part):
        await session.pay(router)  # type: ignore[arg-type]
    assert (router.book.tree.count, session.spent.total) == (1, 10)


async def test_pay__signed_by_nobody_known_or_never_seen__is_not_paid(tmp_path: Path) -> None:
    router, session = FakeRouter(), await opened(tmp_path / "log")
    session.saw(router.answer(0, "a", signer=PrivateKey(keccak(b"a stranger"))), Answered("a", 40))
    with pytest.raises(ReceiptBroken, match="signature of its miner"):
        await session.pay(router)  # type: ignore[arg-type]

    router = FakeRouter()
    session = await opened(tmp_path / "other")
    router.answer(0, "never seen here")
    with pytest.raises(ReceiptBroken, match="not seen here"):
        await session.pay(router)  # type: ignore[arg-type]
    assert await session.pay(router, pay_unseen=True) == 1  # type: ignore[arg-type]


async def test_pay__beyond_the_budget__signs_up_to_it(tmp_path: Path) -> None:
    router, session = FakeRouter(), await opened(tmp_path / "log", SigningLimits(Amount(25)))
    for number in range(4):
        session.saw(router.answer(number, "x"), Answered("x", 40))

    with pytest.raises(LimitReached, match="budget of 25"):
        await session.pay(router)  # type: ignore[arg-type]
    assert router.book.cumulative == 20


async def test_pay__router_has_what_was_never_signed_here__nothing_more_is_signed(tmp_path: Path) -> None:
    router, session = FakeRouter(), await opened(tmp_path / "log")
    other = await opened(tmp_path / "elsewhere")
    other.saw(router.answer(0, "a"), Answered("a", 40))
    await other.pay(router)  # type: ignore[arg-type]
    session.saw(router.answer(1, "b"), Answered("b", 40))

    with pytest.raises(RouterDiverges, match="were signed here"):
        await session.pay(router)  # type: ignore[arg-type]
    assert session.spent.total == 0
