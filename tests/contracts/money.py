"""What the tests of payments share: a charged hub, who was paid what, and sum trees that may be false."""

from collections.abc import Sequence
from typing import Any

import boa

from tests.contracts.conftest import DELAY, VETO_FEE, Hub, account, make_hub, raw
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import SessionId, session_id
from tristrata.protocol.payouts import SumNode

EARNED = {"router": 5, "miner": 95, "other": 20}

Seal = tuple[int, bytes, bytes]
Entry = tuple[int, int, list[tuple[bytes, int]]]


def charged_hub(asset: Any = None) -> Hub:
    """A hub with validators and one session, charged 120."""
    hub = make_hub(asset)
    hub.adopt()
    hub.charge(hub.open(), 1, EARNED)
    return hub


def session_of(hub: Hub, nonce: int = 1) -> SessionId:
    return session_id(hub.sessions.chain_ref(), raw("owner"), nonce)


def direct(hub: Hub, session: bytes, name: str) -> int:
    """What `claim_direct` pays a payee from a session."""
    index = [split.payee for split in hub.last[session][1]].index(raw(name))
    return int(hub.claim_direct(session, index))


def mature() -> None:
    boa.env.time_travel(DELAY)


def balance(hub: Hub, name: str) -> int:
    return int(hub.dollar.balanceOf(account(name)))


def fund_validator(hub: Hub, name: str, amount: int = VETO_FEE) -> None:
    hub.dollar.mint(account(name), amount, sender=hub.operator)
    hub.dollar.approve(hub.settlement.address, 2**256 - 1, sender=account(name))


def events(contract: Any, name: str) -> list[Any]:
    """What the last call logged under this name."""
    return [log for log in contract.get_logs() if type(log).__name__ == name]


def paid(hub: Hub) -> list[tuple[bytes, int]]:
    """To whom the last call paid how much, as it says itself."""
    words = [payment for event in events(hub.settlement, "Claimed") for payment in event.payments]
    return [((payment >> 96).to_bytes(20, "big"), payment & 2**96 - 1) for payment in words]


class SumTreeOf:
    """A sum tree over whatever entries, in whatever order: `protocol.payouts.SumTree` makes only right ones."""

    def __init__(self, entries: Sequence[tuple[bytes, int]]) -> None:
        self.entries = entries
        self.layers = [[SumNode(keccak(session + word(amount)), amount) for session, amount in entries]]
        while len(layer := self.layers[-1]) > 1:
            pairs = [layer[place : place + 2] for place in range(0, len(layer), 2)]
            self.layers.append([parent(*pair) if len(pair) == 2 else pair[0] for pair in pairs])
        [self.top] = self.layers[-1]
        self.total = self.top.total
        self.root = sums_of(self.top)

    def open(self, place: int) -> Entry:
        """The entry at a place, as `refute` takes it."""
        amount, index, siblings = self.entries[place][1], 0, []
        for layer in self.layers[:-1]:
            if place ^ 1 < len(layer):
                index |= (place & 1) << len(siblings)
                siblings.append((layer[place ^ 1].digest, layer[place ^ 1].total))
            place //= 2
        return amount, index, siblings

    def open_all(self, session: bytes) -> list[Entry]:
        """All entries of a session, in the order that `refute` wants."""
        found = [self.open(place) for place, (other, _) in enumerate(self.entries) if other == session]
        return sorted(found, key=lambda entry: len(entry[2]) << 32 | entry[1])


def parent(left: SumNode, right: SumNode) -> SumNode:
    words = left.digest + word(left.total) + right.digest + word(right.total)
    return SumNode(keccak(words), left.total + right.total)


def sums_of(top: SumNode) -> bytes:
    """What a payout says of the sum tree below this node."""
    return keccak(top.digest + word(top.total))
