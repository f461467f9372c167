"""A session whose key the user keeps: what was answered is checked, then paid by a voucher, or it is not paid.

What is signed is on disk before it is sent: after a crash the same vouchers are sent again, and never two that
contradict each other, which would forfeit the session.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
from coincurve import PrivateKey

from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.client.api import RouterApi
from tristrata.client.checks import ReceiptBroken
from tristrata.custody.limits import SigningLimits, Spent, spend
from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidSignature, TristrataError
from tristrata.protocol.ids import Address, RequestId, SessionId, parse_bytes32, show
from tristrata.protocol.receipt import Receipt, most_output_tokens, salted_hash
from tristrata.protocol.signing import address_of, digest, recover, sign
from tristrata.protocol.voucher_book import Acknowledge, Reserve, VoucherBook, apply

PROMPT_OVERHEAD_TOKENS = 256
"""What a chat template may add to a prompt, beyond a token a byte."""


class RouterDiverges(TristrataError):
    """The router's state of the session does not follow from what was signed here; nothing more is signed."""


class Answered(msgspec.Struct, frozen=True):
    """What this side saw of one answer: its output, and how many bytes its request had."""

    output: str
    request_bytes: int


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the log: an answer that was seen, or a receipt that was paid with the voucher's signature."""

    request_id: str
    output: str | None = None
    request_bytes: int = 0
    receipt: dict[str, Any] | None = None
    signature: str = ""


class OwnSession:
    """One session with its key. ``log`` is the file of what was seen and signed; nobody else writes it."""

    def __init__(self, hub: Hub, book: VoucherBook, key: PrivateKey, limits: SigningLimits, log: Path) -> None:
        self.book = book
        self.spent = Spent()
        self._hub = hub
        self._key = key
        self._limits = limits
        self._log = log
        self._seen: dict[bytes, Answered] = {}
        self._signed: list[tuple[RequestId, bytes]] = []
        self._signing_keys: dict[Address, Address] = {}

    @classmethod
    async def open(
        cls, hub: Hub, session: SessionId, key: PrivateKey, limits: SigningLimits, log: Path
    ) -> "OwnSession":
        """The session as the hub has it, and as the log says that it was served. Raises `ReceiptBroken`."""
        head = (await hub.chain.block(Level.SOFT)).number
        record = await hub.session(session, at=head)
        if record is None:
            raise ReceiptBroken(f"session {show(session)} is not on {hub.name}")
        if record.terms.session_key != address_of(key.public_key):
            raise ReceiptBroken(f"session {show(session)} has another key than this one")
        book = VoucherBook(session=session, terms=record.terms, deposit=record.deposit)
        opened = cls(hub, book, key, limits, log)
        opened._read_log()
        return opened

    def saw(self, request_id: bytes, answered: Answered) -> None:
        """Keep what an answer was, until it is paid."""
        self._seen[request_id] = answered
        self._write([_Line(show(request_id), answered.output, answered.request_bytes)])

    async def pay(self, api: RouterApi, *, pay_unseen: bool = False) -> int:
        """Check and pay everything that awaits a voucher; gives how many. Safe to call again after anything.

        Answers that this side has not seen (its process died before) are paid only with ``pay_unseen``. Raises
        `ReceiptBroken`, `LimitReached` or `RouterDiverges`; what was checked before is paid all the same.
        """
        await self._resend(api)
        waiting = await api.awaiting(self.book.session)
        lines: list[_Line] = []
        broken: TristrataError | None = None
        for document in waiting:
            try:
                lines.append(await self._sign_next(document, pay_unseen=pay_unseen))
            except TristrataError as error:
                broken = broken or error
        if lines:
            self._write(lines)
            await api.send_vouchers(self.book.session, self._signed[-len(lines) :])
        if broken is not None:
            raise broken
        return len(lines)

    async def _sign_next(self, document: dict[str, Any], *, pay_unseen: bool) -> _Line:
        receipt = codec.receipt_from_json(document["receipt"])
        await self._check(receipt, document, pay_unseen=pay_unseen)
        spent = spend(self._limits, self.spent, receipt)
        return self._acknowledge(receipt, spent)

    def _acknowledge(self, receipt: Receipt, spent: Spent, signature: bytes = b"") -> _Line:
        # What the hub has charged is for the router to follow: here only the deposit bounds what is signed.
        open_book = msgspec.structs.replace(self.book, charged=self.book.cumulative)
        book, _ = apply(open_book, Reserve(receipt.request_id, receipt.price))
        book, [due] = apply(book, Acknowledge(receipt))
        message = digest(self._hub.settlement_domain.separator, due.voucher.struct_hash)
        signature = signature or sign(self._key, message)
        self.book, self.spent = book, spent
        self._signed.append((receipt.request_id, signature))
        self._seen.pop(receipt.request_id, None)
        return _Line(show(receipt.request_id), receipt=codec.receipt_to_json(receipt), signature=show(signature))

    async def _check(self, receipt: Receipt, document: dict[str, Any], *, pay_unseen: bool) -> None:
        """Raise `ReceiptBroken` unless the miner signed it, and it says what was seen, and no more."""
        _require(receipt.session == self.book.session, receipt, "its session")
        _require(receipt.model_id == self.book.terms.model_id, receipt, "its model")
        signature = bytes.fromhex(document["signature"].removeprefix("0x"))
        signer = await self._signing_key(receipt.miner)
        message = digest(self._hub.settlement_domain.separator, receipt.struct_hash)
        try:
            is_signed = recover(message, signature) == signer
        except InvalidSignature:
            is_signed = False
        _require(is_signed, receipt, "the signature of its miner")
        seen = self._seen.get(receipt.request_id)
        if seen is None:
            _require(pay_unseen, receipt, "its answer, which was not seen here")
            return
        salt = parse_bytes32(document["salts"]["output"], "output salt")
        _require(salted_hash(salt, seen.output) == receipt.output_hash, receipt, "the text of its answer")
        _require(receipt.output_tokens <= most_output_tokens(seen.output), receipt, "its count of output tokens")
        most_prompt = seen.request_bytes + PROMPT_OVERHEAD_TOKENS
        _require(receipt.prompt_tokens <= most_prompt, receipt, "its count of prompt tokens")

    async def _signing_key(self, miner: Address) -> Address:
        known = self._signing_keys.get(miner)
        if known is None:
            head = (await self._hub.chain.block(Level.SOFT)).number
            known = self._signing_keys[miner] = (await self._hub.miner(miner, at=head)).signing_key
        return known

    async def _resend(self, api: RouterApi) -> None:
        """Bring the router to where this side is; vouchers that a crash kept from it are sent again."""
        state = await api.session(self.book.session)
        count, here = int(state["count"]), self.book.tree.count
        if count < here:
            await api.send_vouchers(self.book.session, self._signed[count:])
            state = await api.session(self.book.session)
        if (int(state["count"]), state["head"]) != (here, show(self.book.tree.root)):
            raise RouterDiverges(
                f"the router has {state['count']} receipts of session {show(self.book.session)} with head "
                f"{state['head']}; {here} with head {show(self.book.tree.root)} were signed here",
                remedy="sign no more; keep the log, and close the session: tristrata session close",
            )

    def _read_log(self) -> None:
        if not self._log.exists():
            return
        data = self._log.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # the power went while a line was written: what it says was never sent
            os.truncate(self._log, len(whole))
        for written in whole.splitlines():
            line = msgspec.json.decode(written, type=_Line)
            if line.receipt is None:
                self._seen[parse_bytes32(line.request_id, "request id")] = Answered(
                    line.output or "", line.request_bytes
                )
                continue
            receipt = codec.receipt_from_json(line.receipt)
            day = receipt.finished_at // 1_000 // 86_400
            today = receipt.price + (self.spent.today if day == self.spent.day else 0)
            spent = Spent(type(receipt.price)(self.spent.total + receipt.price), type(receipt.price)(today), day)
            self._acknowledge(receipt, spent, bytes.fromhex(line.signature.removeprefix("0x")))

    def _write(self, lines: list[_Line]) -> None:
        """On disk when this returns."""
        self._log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _require(holds: bool, receipt: Receipt, part: str) -> None:
    if not holds:
        raise ReceiptBroken(
            f"receipt {show(receipt.request_id)} breaks at {part}; it is not paid",
            remedy="keep it: it shows that somebody cheated; ask another router",
        )
