"""Which miner answers a request. Pure: statuses in, a miner or the counts of why not out."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from tristrata.fabric.frames import Offer, Status
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2, ModelId
from tristrata.protocol.voucher_book import VoucherBook

_UNMEASURED_SPEED = 20.0


class NoCapacity(TristrataError):
    """No miner fits; the message counts why."""


class Match(msgspec.Struct, frozen=True):
    """The miner that answers, in which run of its process, and at which prices."""

    miner: Address
    run: bytes
    offer: Offer


def match(
    chain: Caip2,
    model: ModelId,
    book: VoucherBook,
    statuses: Iterable[Status],
    *,
    bound: Address | None = None,
    excluded: frozenset[Address] = frozenset(),
) -> Match:
    """The miner that the session is bound to if it fits, else the best: free slots first, then price for its speed.

    Raises `NoCapacity`.
    """
    reasons: Counter[str] = Counter()
    fitting: list[tuple[Status, Offer]] = []
    for status in statuses:
        miner = Address(status.miner)
        offer = _offer(status, chain, model)
        if offer is None:
            reasons["model"] += 1
        elif offer.prompt_price > book.terms.max_prompt_price or offer.output_price > book.terms.max_output_price:
            reasons["price"] += 1
        elif status.draining or miner in excluded:
            reasons["leaving"] += 1
        elif status.busy >= status.slots:
            reasons["busy"] += 1
        elif not book.can_pay(miner):
            reasons["payees"] += 1
        else:
            fitting.append((status, offer))
    if not fitting:
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "no miner is connected"
        raise NoCapacity(f"no_capacity: {why}", remedy="try again later, or raise the session's price ceilings")
    status, offer = min(fitting, key=lambda pair: (pair[0].miner != bound, _rank(*pair)))
    return Match(Address(status.miner), status.run, offer)


def _offer(status: Status, chain: Caip2, model: ModelId) -> Offer | None:
    return next((offer for offer in status.offers if offer.chain == chain and offer.model_id == model), None)


def _rank(status: Status, offer: Offer) -> tuple[float, bytes]:
    load = status.busy / status.slots
    price = offer.prompt_price + offer.output_price
    return (1 + load) * price / (status.speed or _UNMEASURED_SPEED), status.miner
