"""What a client checks about an answer that it paid for, without believing the router."""

from typing import Any

from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidSignature, TristrataError
from tristrata.protocol.ids import parse_bytes32
from tristrata.protocol.receipt import Receipt, salted_hash
from tristrata.protocol.signing import digest, recover
from tristrata.protocol.voucher import SignedVoucher


class ReceiptBroken(TristrataError):
    """A receipt that does not prove what it should; the message names the part."""


async def check_answer(document: dict[str, Any], answer: str, hub: Hub) -> tuple[Receipt, SignedVoucher]:
    """Check the document of ``/v1/receipts/{id}`` against the answer that was streamed and the hub's registries.

    The receipt must be signed with the key that the miner registered on the hub and name the answer's text, the voucher
    by the session's key. Raises `ReceiptBroken`, or `InvalidValue` for a malformed document.
    """
    receipt = codec.receipt_from_json(document["receipt"])
    signed = codec.voucher_from_json(document["voucher"])
    head = (await hub.chain.block(Level.SOFT)).number
    miner = await hub.miner(receipt.miner, at=head)
    session = await hub.session(receipt.session, at=head)
    if session is None:
        raise ReceiptBroken(f"the receipt's session is not on {hub.name}")
    separator = hub.settlement_domain.separator
    signature = bytes.fromhex(document["signature"].removeprefix("0x"))
    salt = parse_bytes32(document["salts"]["output"], "output salt")
    _require(_signer(separator, receipt.struct_hash, signature) == miner.signing_key, "the miner's signature")
    _require(salted_hash(salt, answer) == receipt.output_hash, "the answer's hash")
    _require(receipt.model_id == session.terms.model_id, "the model")
    _require(signed.voucher.session == receipt.session, "the voucher's session")
    _require(signed.voucher.count == document["position"] + 1, "the voucher's count")
    voucher_signer = _signer(separator, signed.voucher.struct_hash, signed.signature)
    _require(voucher_signer == session.terms.session_key, "the voucher's signature")
    return receipt, signed


def _signer(separator: bytes, struct_hash: bytes, signature: bytes) -> bytes:
    try:
        return recover(digest(separator, struct_hash), signature)
    except InvalidSignature:
        return b""


def _require(holds: bool, part: str) -> None:
    if not holds:
        raise ReceiptBroken(f"the receipt breaks at {part}", remedy="keep it: it shows that somebody cheated")
