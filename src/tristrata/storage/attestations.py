"""Proposed epochs and validators' signatures on the bulletin: where settlers, validators and relayers meet.

Nothing here is believed: a proposal is recomputed, a signature recovered, and whether a signer counts is for the
validator set to say.
"""

import msgspec

from tristrata.protocol.attestation import Epoch
from tristrata.protocol.errors import InvalidSignature
from tristrata.protocol.ids import Address, ChainRef
from tristrata.protocol.signing import recover
from tristrata.storage.bulletin import Bulletin

_PROPOSAL, _SIGNATURE = "proposal", "signature"
_SHOWN_DIGITS = 16


class Attestations:
    """The bulletin, read and written in the words of the protocol. ``chain`` is the chain whose epoch it is."""

    def __init__(self, bulletin: Bulletin) -> None:
        self._bulletin = bulletin

    def propose(self, chain: ChainRef, author: Address, epoch: Epoch) -> None:
        """Put up an epoch for signing, in place of the author's last proposal of the same epoch."""
        self._bulletin.post(_topic(chain, epoch.epoch), f"{_PROPOSAL}-{author.hex()}", msgspec.msgpack.encode(epoch))

    def proposal(self, chain: ChainRef, author: Address, number: int) -> Epoch | None:
        """What ``author`` proposes as epoch ``number``."""
        post = self._bulletin.read(_topic(chain, number)).get(f"{_PROPOSAL}-{author.hex()}")
        return _decode(post) if post else None

    def proposals(self, chain: ChainRef, number: int) -> list[Epoch]:
        """Everything that is proposed as epoch ``number``."""
        posts = self._bulletin.read(_topic(chain, number)).items()
        found = (_decode(data) for name, data in posts if name.startswith(_PROPOSAL))
        return [epoch for epoch in found if epoch is not None and epoch.epoch == number]

    def sign(self, chain: ChainRef, number: int, signer: Address, message_digest: bytes, signature: bytes) -> None:
        """Put up a signature of a digest that belongs to epoch ``number``."""
        name = f"{_SIGNATURE}-{signer.hex()}-{message_digest.hex()[:_SHOWN_DIGITS]}"
        self._bulletin.post(_topic(chain, number), name, signature)

    def signatures(self, chain: ChainRef, number: int, message_digest: bytes) -> dict[Address, bytes]:
        """The signatures of a digest so far, by the account that made each."""
        found = {}
        for name, data in self._bulletin.read(_topic(chain, number)).items():
            if name.startswith(_SIGNATURE) and name.endswith(message_digest.hex()[:_SHOWN_DIGITS]):
                try:
                    found[recover(message_digest, data)] = data
                except InvalidSignature:
                    continue
        return found


def _topic(chain: ChainRef, number: int) -> str:
    return f"epochs/{chain.hex()}/{number}"


def _decode(data: bytes) -> Epoch | None:
    try:
        return msgspec.msgpack.decode(data, type=Epoch)
    except msgspec.MsgspecError:
        return None
