"""Whether a receipt holds, link by link, from the miner's signature to Ethereum; for `tristrata verify` and the SDK.

Nothing here is slow to import: a receipt is verified in milliseconds and one request.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tristrata.protocol.errors import TristrataError

if TYPE_CHECKING:
    from tristrata.protocol.epoch import Lane
    from tristrata.protocol.proof import CheckpointId, Hop, ReceiptProof, Verified

PROVEN, BROKEN, AWAITED, NOT_CHECKED = 0, 1, 2, 3
"""What `verify_file` gives: proven; a link is broken; signed, but not on Ethereum yet; it could not be checked."""

_TIMEOUT_SECONDS = 20
_CHECKPOINT_WORDS = 3


class NotChecked(TristrataError):
    """The receipt could not be checked: neither proven nor broken."""


def verify_file(
    file: Path, *, rpc: str = "", checkpoint: str = "", ledger: str = "", network: str = "local"
) -> tuple[int, dict[str, Any]]:
    """One of the codes above, and what was found as one JSON object (``status`` and what belongs to it).

    ``rpc`` is an address of L1, ``checkpoint`` the root that its ledger holds, ``ledger`` the one that is trusted;
    what is not given is read from the ``network`` that this machine knows.
    """
    try:
        data = _read(file)
    except NotChecked as error:
        return NOT_CHECKED, _unchecked(error)
    return verify_document(data, rpc=rpc, checkpoint=checkpoint, ledger=ledger, network=network)


def verify_document(
    data: bytes, *, rpc: str = "", checkpoint: str = "", ledger: str = "", network: str = "local"
) -> tuple[int, dict[str, Any]]:
    """As `verify_file`, for the file's content."""
    from tristrata.protocol.errors import InvalidValue
    from tristrata.protocol.proof import Link, LinkBroken, NotYetOnEthereum, parse_proof

    try:
        proof = parse_proof(data)
    except InvalidValue as error:
        return BROKEN, _broken(Link.RECEIPT, "a well-formed receipt file", error.message)
    try:
        return PROVEN, _proven(proof, *_verify(proof, rpc, checkpoint, ledger, network))
    except LinkBroken as error:
        return BROKEN, _broken(error.link, error.expected, error.found)
    except NotYetOnEthereum as error:
        return AWAITED, {"status": "awaiting", "awaited": error.awaited}
    except TristrataError as error:
        return NOT_CHECKED, _unchecked(error)


def _verify(proof: "ReceiptProof", rpc: str, given: str, ledger: str, network: str) -> "tuple[Verified, str, bool]":
    """What is proven, where the last value came from, and whether the ledger is one that is trusted here."""
    from tristrata.protocol.ids import parse_bytes32
    from tristrata.protocol.proof import verify as verify_proof

    if rpc and given:
        raise NotChecked("--rpc and --checkpoint were both given", remedy="give one of them")
    if proof.path is None:
        return verify_proof(proof, bytes(32)), "", False
    named = proof.path.checkpoint
    verify_proof(proof, named.root)  # all links in the file, before anything is asked
    known = _Network.read(network, named)
    trusted = ledger or known.ledger
    _require_ledger(named, trusted)
    if given:
        return verify_proof(proof, parse_bytes32(given, "--checkpoint")), "given as --checkpoint", bool(trusted)
    url = rpc or known.rpc
    if not url:
        raise NotChecked(
            f"network {network!r} does not run here, so L1 ({named.chain}) cannot be asked",
            remedy="give --rpc URL, or offline --checkpoint HEX",
        )
    root, lane = _ask(url, named)
    return verify_proof(proof, root, lane), f"read at {url}, in the newest finalized block", bool(trusted)


class _Network:
    """What this machine knows of the network: L1's RPC address and the ledger there, each empty when unknown."""

    def __init__(self, rpc: str = "", ledger: str = "") -> None:
        self.rpc = rpc
        self.ledger = ledger

    @classmethod
    def read(cls, name: str, named: "CheckpointId") -> "_Network":
        from tristrata.config.home import NetworkHome

        home = NetworkHome.named(name)
        if not home.network_file.exists():
            return cls()
        from tristrata.config.manifest import read_manifest
        from tristrata.config.network import read_network

        settings = read_network(home.network_file)
        security = settings.chains[settings.roles.security]
        if security.caip2 != named.chain:
            return cls()
        deployed = read_manifest(home.manifest_file).chains.get(security.caip2, {}).get("CheckpointLedger")
        return cls(security.rpc[0] if security.rpc else "", deployed.address if deployed else "")


def _require_ledger(named: "CheckpointId", trusted: str) -> None:
    """Whoever makes a file can also make a ledger: the file must name the one that is trusted, if one is known."""
    from tristrata.protocol.ids import checksum, parse_address
    from tristrata.protocol.proof import Link, LinkBroken

    if trusted and parse_address(trusted) != named.ledger:
        raise LinkBroken(Link.ETHEREUM, f"ledger {checksum(parse_address(trusted))}", checksum(named.ledger))


def _ask(url: str, named: "CheckpointId") -> "tuple[bytes, Lane]":
    """The ledger's root and lane for the checkpoint, by one HTTP request. Raises `NotChecked`."""
    from tristrata.protocol.epoch import Lane
    from tristrata.protocol.hashing import WORD_BYTES, keccak, word
    from tristrata.protocol.ids import evm_chain_id, show

    data = keccak(b"checkpoint(bytes32,uint64)")[:4] + named.chain_ref + word(named.epoch)
    (served, no_chain), (answer, refused) = _batch(
        url,
        ("eth_chainId", []),
        ("eth_call", [{"to": show(named.ledger), "data": show(data)}, "finalized"]),
    )
    try:
        chain_id = -1 if no_chain else int(served, 16)
        output = b"" if refused else bytes.fromhex(answer.removeprefix("0x"))
    except (ValueError, TypeError, AttributeError) as error:
        raise NotChecked(f"{url} answers what is not hexadecimal: {error}") from error
    if no_chain:
        raise NotChecked(f"{url} refused: {no_chain}")
    # Before what the contract says: on another chain another contract may stand at the ledger's address.
    if chain_id != evm_chain_id(named.chain):
        raise NotChecked(f"{url} serves chain {chain_id}; the receipt needs {named.chain}", remedy="give its --rpc URL")
    if refused:
        raise NotChecked(f"{url} refused: {refused}")
    if len(output) != _CHECKPOINT_WORDS * WORD_BYTES:
        raise NotChecked(f"there is no CheckpointLedger at {show(named.ledger)} on {named.chain}")
    lane = int.from_bytes(output[WORD_BYTES : 2 * WORD_BYTES], "big")
    if lane not in set(Lane):
        raise NotChecked(f"the ledger at {show(named.ledger)} names lane {lane}, which does not exist")
    return output[:WORD_BYTES], Lane(lane)


def _batch(url: str, *calls: tuple[str, list[Any]]) -> list[tuple[Any, str]]:
    """The results of JSON-RPC calls, in one HTTP request, each with why it was refused. Raises `NotChecked`."""
    import msgspec

    requests = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        for number, (method, parameters) in enumerate(calls)
    ]
    body = _post(url, msgspec.json.encode(requests))
    try:
        answers = {answer["id"]: answer for answer in msgspec.json.decode(body)}
        found = [answers[number] for number in range(len(calls))]
        refused = [answer["error"]["message"] if "error" in answer else "" for answer in found]
        return [(answer.get("result"), why) for answer, why in zip(found, refused, strict=True)]
    except (msgspec.DecodeError, TypeError, KeyError, AttributeError) as error:
        raise NotChecked(f"{url} does not speak JSON-RPC in batches: {error!r}", remedy="give another --rpc") from error


def _post(url: str, body: bytes) -> bytes:
    """What the server answers, by the standard library: a client with more to it takes longer to import than to ask."""
    from http import HTTPStatus
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        kinds = {"http": HTTPConnection, "https": HTTPSConnection}
        if parts.scheme not in kinds or not parts.hostname:
            raise NotChecked(f"RPC address {url!r} must read http://host or https://host")
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("POST", target, body, {"content-type": "application/json", "user-agent": "tristrata"})
            response = connection.getresponse()
            answer: bytes = response.read()
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        raise NotChecked(f"{url} does not answer: {error}", remedy="give another --rpc, or --checkpoint") from error
    if response.status != HTTPStatus.OK:
        raise NotChecked(f"{url} answers with HTTP status {response.status}", remedy="give another --rpc")
    return answer


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotChecked(f"{file} cannot be read: {error.strerror}", remedy="check the path") from error


def _broken(link: str, expected: str, found: str) -> dict[str, Any]:
    return {"status": "broken", "link": str(link), "expected": expected, "found": found}


def _unchecked(error: TristrataError) -> dict[str, Any]:
    return {"status": "unchecked", "error": error.message, "remedy": error.remedy}


def _proven(proof: "ReceiptProof", verified: "Verified", source: str, trusted: bool) -> dict[str, Any]:
    from tristrata.protocol import codec
    from tristrata.protocol.ids import checksum, show

    assert proof.path is not None
    checkpoint = proof.path.checkpoint
    return {
        "status": "proven",
        "lane": verified.lane.name.lower(),
        "receipt": codec.receipt_to_json(proof.receipt),
        "receipt_hash": show(verified.receipt_hash),
        "signer": checksum(proof.signer),
        "chain": proof.domain.chain,
        "position": proof.path.position,
        "hops": [_hop(hop) for hop in verified.hops],
        "checkpoint": {
            "chain": checkpoint.chain,
            "ledger": checksum(checkpoint.ledger),
            "root": show(checkpoint.root),
            "source": source,
            "ledger_is_trusted": trusted,
        },
    }


def _hop(hop: "Hop") -> dict[str, Any]:
    from tristrata.protocol.ids import show

    return {
        "chain_ref": show(hop.chain_ref),
        "epoch": hop.epoch,
        "root": show(hop.root),
        "lane": hop.lane.name.lower(),
    }
