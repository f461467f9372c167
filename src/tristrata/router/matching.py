"""Which miner answers a request: an index of everything that miners offer now. Pure: no clock, no I/O.

Free miners of one model on one hub stand in order of price for speed, so that the best is found by looking at a few,
however many there are. Golem's matcher took 1.2 s for 14 offers; see docs/benchmarks.md for this one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec
from sortedcontainers import SortedSet

from tristrata.fabric.frames import FEATURES, Offer, Status
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2, ModelId
from tristrata.protocol.voucher_book import VoucherBook

_UNMEASURED_SPEED = 20.0
_LOOKED_AT_BY_RANK, _LOOKED_AT_BY_PRICE = 256, 1_024
_NOTHING: frozenset[str] = frozenset()


class NoCapacity(TristrataError):
    """No miner fits; the message counts why. ``may_wait`` says that some would but are busy."""

    may_wait = False


class FeatureMissing(TristrataError):
    """Miners serve the model, but none has what the request needs; ``feature`` names it."""

    def __init__(self, feature: str) -> None:
        super().__init__(f"no miner of this model supports {feature}", remedy="leave it out, or ask another model")
        self.feature = feature


class Match(msgspec.Struct, frozen=True):
    """The miner that answers, in which run of its process, and at which prices."""

    miner: Address
    run: bytes
    offer: Offer


class Market:
    """Who offers what now. ``hold`` and ``release`` count the requests that this router has open at a miner.

    ``on_free`` is called whenever a miner takes requests that took none before.
    """

    def __init__(self, statuses: Iterable[Status] = ()) -> None:
        self._statuses: dict[Address, Status] = {}
        self._stalls: dict[tuple[str, bytes], _Stall] = {}
        self._held: Counter[Address] = Counter()
        self.on_free: Callable[[], None] = _nothing
        for status in statuses:
            self.put(status)

    def __len__(self) -> int:
        return len(self._statuses)

    def counts(self) -> list[tuple[str, bytes, int]]:
        """How many miners offer each model on each hub."""
        return [(chain, model, len(stall.offers)) for (chain, model), stall in self._stalls.items()]

    def statuses(self) -> Iterator[Status]:
        """The miners' last statuses."""
        return iter(self._statuses.values())

    def status(self, miner: Address) -> Status | None:
        """A miner's last status."""
        return self._statuses.get(miner)

    def put(self, status: Status) -> None:
        """Take in a miner's new status."""
        miner = Address(status.miner)
        known = self._statuses.get(miner)
        if known is None or not self._stands_alike(known, status):
            if known is not None:
                self._unlist(known)
            self._statuses[miner] = status
            self._list(status)
            if self.is_free(status):
                self.on_free()
        else:
            self._statuses[miner] = status

    def remove(self, miner: Address) -> None:
        """A miner is gone."""
        known = self._statuses.get(miner)
        if known is not None:
            self._unlist(known)
            del self._statuses[miner]

    def hold(self, miner: Address) -> None:
        """This router has one more request open at the miner; its next status comes within a second."""
        self._recount(miner, 1)

    def release(self, miner: Address) -> None:
        """One of these ended."""
        self._recount(miner, -1)

    def match(
        self,
        chain: Caip2,
        model: ModelId,
        book: VoucherBook,
        *,
        bound: Address | None = None,
        excluded: frozenset[Address] = frozenset(),
        needs: frozenset[str] = _NOTHING,
    ) -> Match:
        """The miner that the session is bound to if it fits, else the best: price for speed, times its load.

        Looks at 1,280 miners at most. ``needs`` are the features that the request needs. Raises `NoCapacity` or
        `FeatureMissing`.
        """
        stall = self._stalls.get((chain, model))
        if stall is None:
            raise self._nobody(None, book, excluded)
        if bound is not None and (found := self._fit(stall, bound, book, excluded, needs)) is not None:
            return found
        if book.has_room:
            best = stall.best(self, book, excluded, needs)
        else:  # only miners that the session has paid before
            fitting = (self._fit(stall, payee, book, excluded, needs) for payee in book.earned)
            best = min((each for each in fitting if each is not None), key=self._rank, default=None)
        if best is not None:
            return best
        for feature in sorted(needs):
            if not any(feature in features for features in stall.features):
                raise FeatureMissing(feature)
        raise self._nobody(stall, book, excluded)

    def _fit(
        self, stall: "_Stall", miner: Address, book: VoucherBook, excluded: frozenset[Address], needs: frozenset[str]
    ) -> Match | None:
        offer, status = stall.offers.get(miner), self._statuses.get(miner)
        if offer is None or status is None or miner in excluded or not self.is_free(status):
            return None
        if not _affordable(offer, book) or not needs.issubset(offer.features):
            return None
        return Match(miner, status.run, offer)

    def is_free(self, status: Status) -> bool:
        """Whether a miner takes one more request."""
        return not status.draining and self.load(status) < 1

    def load(self, status: Status) -> float:
        """The share of a miner's slots that are taken: as it says, or as this router knows better."""
        return max(status.busy, self._held[Address(status.miner)]) / status.slots

    def _rank(self, found: Match) -> tuple[float, Address]:
        status = self._statuses[found.miner]
        return (1 + self.load(status)) * _base(status, found.offer), found.miner

    def _stands_alike(self, known: Status, status: Status) -> bool:
        return (
            known.offers == status.offers
            and known.speed == status.speed
            and known.draining == status.draining
            and self.is_free(known) == self.is_free(status)
        )

    def _recount(self, miner: Address, change: int) -> None:
        status = self._statuses.get(miner)
        was_free = status is not None and self.is_free(status)
        if status is not None and change < 0:
            # When the miner said how busy it is, this request was still open; what it does for others stays counted.
            status = self._statuses[miner] = msgspec.structs.replace(status, busy=max(0, status.busy + change))
        self._held[miner] += change
        if not self._held[miner]:
            del self._held[miner]
        if status is not None and self.is_free(status) != was_free:
            for offer in status.offers:
                self._stalls[offer.chain, offer.model_id].set_free(status, offer, is_free=not was_free)
            if not was_free:
                self.on_free()

    def _list(self, status: Status) -> None:
        for offer in status.offers:
            stall = self._stalls.setdefault((offer.chain, offer.model_id), _Stall())
            stall.add(status, offer, is_free=self.is_free(status))

    def _unlist(self, status: Status) -> None:
        for offer in status.offers:
            place = (offer.chain, offer.model_id)
            self._stalls[place].remove(status, offer)
            if not self._stalls[place].offers:
                del self._stalls[place]

    def _nobody(self, stall: "_Stall | None", book: VoucherBook, excluded: frozenset[Address]) -> NoCapacity:
        there = len(stall.offers) if stall else 0
        leaving, busy = (stall.leaving, there - stall.free - stall.leaving) if stall else (0, 0)
        tried = sum(miner in stall.offers for miner in excluded) if stall else 0
        counts = {"model": len(self) - there, "busy": busy, "leaving": leaving + tried}
        unfit = there - busy - leaving - tried
        counts["price" if book.has_room else "payees"] = max(0, unfit)
        why = ", ".join(f"{reason} {count}" for reason, count in Counter(counts).most_common() if count)
        nobody = NoCapacity(
            f"no_capacity: {why or 'no miner is connected'}",
            remedy="try again later, or raise the session's price ceilings",
        )
        nobody.may_wait = busy > 0
        return nobody


class _Stall:
    """Everybody who offers one model on one hub: free ones by features, then by price for speed, and by price."""

    def __init__(self) -> None:
        self.offers: dict[Address, Offer] = {}
        self.leaving = 0
        self.free = 0
        self.features: dict[frozenset[str], tuple[SortedSet, SortedSet]] = {}

    def add(self, status: Status, offer: Offer, *, is_free: bool) -> None:
        self.offers[Address(status.miner)] = offer
        self.leaving += status.draining
        self.features.setdefault(_features(offer), (SortedSet(), SortedSet()))
        if is_free:
            self.set_free(status, offer, is_free=True)

    def remove(self, status: Status, offer: Offer) -> None:
        del self.offers[Address(status.miner)]
        self.leaving -= status.draining
        self.set_free(status, offer, is_free=False)

    def set_free(self, status: Status, offer: Offer, *, is_free: bool) -> None:
        by_rank, by_price = self.features[_features(offer)]
        miner = Address(status.miner)
        ranked, priced = (_base(status, offer), miner), (offer.prompt_price + offer.output_price, miner)
        if is_free and ranked not in by_rank:
            by_rank.add(ranked)
            by_price.add(priced)
            self.free += 1
        elif not is_free and ranked in by_rank:
            by_rank.remove(ranked)
            by_price.remove(priced)
            self.free -= 1

    def best(
        self, market: Market, book: VoucherBook, excluded: frozenset[Address], needs: frozenset[str]
    ) -> Match | None:
        found: tuple[float, Address] | None = None
        for features, (by_rank, by_price) in self.features.items():
            if needs.issubset(features):
                best = self._first(market, islice(by_rank, _LOOKED_AT_BY_RANK), book, excluded)
                if best is None and len(by_rank) > _LOOKED_AT_BY_RANK:
                    # Those with the best price for their speed are too dear: the cheapest are looked at, however slow.
                    best = self._first(market, islice(by_price, _LOOKED_AT_BY_PRICE), book, excluded, by_base=False)
                if best is not None and (found is None or best < found):
                    found = best
        if found is None:
            return None
        _, miner = found
        status = market.status(miner)
        assert status is not None  # who is free is there
        return Match(miner, status.run, self.offers[miner])

    def _first(
        self,
        market: Market,
        candidates: Iterator[tuple[float, Address]],
        book: VoucherBook,
        excluded: frozenset[Address],
        *,
        by_base: bool = True,
    ) -> tuple[float, Address] | None:
        """The best of the candidates; in order of rank, those that no load can make the best are left."""
        best: tuple[float, Address] | None = None
        for value, miner in candidates:
            if by_base and best is not None and value > best[0]:
                break
            offer = self.offers[miner]
            if miner in excluded or not _affordable(offer, book):
                continue
            status = market.status(miner)
            assert status is not None  # who is free is there
            ranked = ((1 + market.load(status)) * _base(status, offer), miner)
            if best is None or ranked < best:
                best = ranked
        return best


def _nothing() -> None:
    pass


def _features(offer: Offer) -> frozenset[str]:
    return FEATURES.intersection(offer.features)


def _affordable(offer: Offer, book: VoucherBook) -> bool:
    return offer.prompt_price <= book.terms.max_prompt_price and offer.output_price <= book.terms.max_output_price


def _base(status: Status, offer: Offer) -> float:
    return (offer.prompt_price + offer.output_price) / (status.speed or _UNMEASURED_SPEED)
