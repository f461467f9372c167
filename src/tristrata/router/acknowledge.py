"""From a miner's receipt to a signed voucher: everything that is checked before a session pays. Pure."""

import msgspec
from coincurve import PrivateKey

from tristrata.fabric.frames import Task
from tristrata.protocol.answers import TaskKind
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address
from tristrata.protocol.receipt import Receipt, most_output_tokens, salted_hash
from tristrata.protocol.signing import digest, require_signer, sign
from tristrata.protocol.units import cost_of
from tristrata.protocol.voucher import SignedVoucher
from tristrata.protocol.voucher_book import Acknowledge, VoucherBook, apply

PROMPT_OVERHEAD_TOKENS = 256
"""What a chat template may add to a prompt; beyond one token a byte plus this, a miner overcounts."""


class ReceiptWrong(TristrataError):
    """A receipt that does not say what happened."""


class Acknowledged(msgspec.Struct, frozen=True):
    """The session after the receipt, the receipt's position in it, and the voucher that pays for it."""

    book: VoucherBook
    position: int
    voucher: SignedVoucher


def check_receipt(
    receipt: Receipt,
    signature: bytes,
    task: Task,
    miner: Address,
    signing_key: Address,
    streamed: str,
    separator: bytes,
) -> None:
    """Raise `ReceiptWrong`, or `InvalidSignature`, unless the receipt is for this task, signed, and not padded.

    ``streamed`` is what the router itself saw of the answer: `tristrata.protocol.answers.output_of`.
    """
    wrong = _difference(receipt, task, miner, streamed)
    if wrong:
        raise ReceiptWrong(f"miner 0x{miner.hex()} sent a receipt with a wrong {wrong}")
    require_signer(digest(separator, receipt.struct_hash), signature, signing_key, "the receipt")


def acknowledge(book: VoucherBook, receipt: Receipt, key: PrivateKey, separator: bytes) -> Acknowledged:
    """Add a checked receipt to the session and sign the voucher that pays for it. Raises `ReceiptRefused`."""
    book, [due] = apply(book, Acknowledge(receipt))
    signature = sign(key, digest(separator, due.voucher.struct_hash))
    return Acknowledged(book, due.position, SignedVoucher(due.voucher, due.splits, signature))


def _most_output_tokens(task: Task, streamed: str) -> int:
    return 0 if task.kind == TaskKind.EMBEDDING else most_output_tokens(streamed)


def _difference(receipt: Receipt, task: Task, miner: Address, streamed: str) -> str:
    expected = cost_of(receipt.prompt_tokens, receipt.output_tokens, task.prompt_price, task.output_price)
    most_prompt = len(task.body) + PROMPT_OVERHEAD_TOKENS
    rules = {
        "request": receipt.request_id == task.request_id,
        "session": receipt.session == task.session,
        "model": receipt.model_id == task.model_id,
        "miner": receipt.miner == miner,
        "assurance": receipt.assurance == task.assurance,
        "price": receipt.price == expected,
        "number of prompt tokens": receipt.prompt_tokens <= most_prompt,
        "number of output tokens": receipt.output_tokens <= _most_output_tokens(task, streamed),
        "output hash": receipt.output_hash == salted_hash(task.output_salt, streamed),
    }
    return next((rule for rule, holds in rules.items() if not holds), "")
