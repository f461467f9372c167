"""What the account APIs share: the router's rules, its chains and writers, its sessions and keys."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request

from tristrata.bindings.welcome import Welcome
from tristrata.chains.writer import TransactionReverted, TransactionWriter
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, Caip2, ModelId, SessionId, parse_bytes32, show
from tristrata.protocol.units import Amount, BasisPoints, Timestamp
from tristrata.router.accounts.tokens import SignInTokens
from tristrata.router.callers import Caller, Callers
from tristrata.router.http import Refusal
from tristrata.router.hubs import HubFollower
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.own_keys import OwnKeyDesk
from tristrata.router.sessions import ServedSession, ServedSessions
from tristrata.router.state import RouterState
from tristrata.storage.api_keys import ApiKeys, Scope
from tristrata.storage.database import Database

_SECONDS_PER_DAY = 86_400
CARRIED_PER_DAY = 100
"""How many top-ups, closes and refunds a day the router carries for one owner."""


class RouterRules(msgspec.Struct, frozen=True):
    """What this router agrees to. Amounts are base units; ``sponsored_per_day`` counts registrations it pays for.

    ``domain`` is the authority (host and port) that sign-in messages name.
    """

    address: Address
    router_bps: BasisPoints
    unsecured_limit: Amount
    unvouchered_limit: Amount
    sponsored_per_day: int
    domain: str
    models: tuple[ServedModel, ...]


class Sponsor:
    """Counts what the router pays gas for, by the UTC day; nothing of it outlives the day, or the process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._day = 0
        self._counts: dict[bytes, int] = {}

    @contextmanager
    def pays(self, who: bytes, limit: int, what: str) -> Iterator[None]:
        """Count the block as one transaction for ``who``, unless a contract refuses it, which costs nothing.

        Raises `Refusal` (429) past ``limit`` a day.
        """
        today = int(self._clock()) // _SECONDS_PER_DAY
        if today != self._day:
            self._day, self._counts = today, {}
        count = self._counts.get(who, 0)
        if count >= limit:
            raise Refusal(429, "sponsor_exhausted", f"this router pays for {limit} {what} a day; come back tomorrow")
        self._counts[who] = count + 1
        try:
            yield
        except TransactionReverted:
            self._counts[who] = max(0, self._counts.get(who, 0) - 1)
            raise


@dataclass(frozen=True)
class AccountDesk:
    """One router's accounts: ``writers`` has one for the Welcome Center's chain and one a hub."""

    rules: RouterRules
    welcome: Welcome
    hubs: Mapping[Caip2, HubFollower]
    writers: Mapping[Caip2, TransactionWriter]
    callers: Callers
    tokens: SignInTokens
    own_keys: OwnKeyDesk
    state: RouterState
    clock: Callable[[], float] = time.time
    sponsor: Sponsor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sponsor", Sponsor(self.clock))

    @property
    def sessions(self) -> ServedSessions:
        """All sessions of this router."""
        return self.state.sessions

    @property
    def keys(self) -> ApiKeys:
        """All API keys."""
        return self.state.keys

    @property
    def database(self) -> Database:
        """The router's database."""
        return self.state.database

    @property
    def now(self) -> Timestamp:
        """The time in seconds."""
        return Timestamp(int(self.clock()))

    @property
    def managed_deposits(self) -> Amount:
        """What owners have put into sessions whose keys this router holds, over all hubs."""
        return Amount(sum(follower.managed_deposits for follower in self.hubs.values()))

    def hub(self, caip2: str) -> HubFollower:
        """The follower of a hub. Raises `InvalidValue`."""
        follower = self.hubs.get(Caip2(caip2))
        if follower is None:
            raise InvalidValue(f"hub {caip2!r} is not served here; there is {', '.join(self.hubs)}")
        return follower

    def model_name(self, model: ModelId) -> str:
        """A model's name, or its id where this router does not serve it."""
        return next((known.name for known in self.rules.models if known.model_id == model), show(model))

    def caller(self, request: Request, scope: Scope) -> Caller:
        """Who asks. Raises `Refusal` (401, 403)."""
        caller = self.callers.authenticate(request)
        caller.require(scope)
        return caller

    async def session_of(self, request: Request, caller: Caller) -> ServedSession:
        """The caller's session that the URL names, as its owner has it.

        Raises `Refusal` (404), `InvalidValue` or `OwnedElsewhere`.
        """
        served = self.known_session(request, caller)
        if not self.state.fleet.owns(served):
            await self.state.fleet.own(served)
        return served

    def known_session(self, request: Request, caller: Caller) -> ServedSession:
        """The caller's session that the URL names, as the hub's events tell it; another router may know what it spent.

        Raises `Refusal` (404) or `InvalidValue`.
        """
        return caller.session(SessionId(parse_bytes32(request.path_params["session"], "session")))

    async def writer(self, chain: Caip2) -> TransactionWriter:
        """Who writes to a chain. Raises `OwnedElsewhere` where that is another router."""
        await self.state.fleet.lead()
        return self.writers[chain]

    def require_unsecured(self, deposit: Amount) -> None:
        """Raise `Refusal` (403) where one more managed deposit is more than the router takes beyond its bond."""
        after = self.managed_deposits + deposit
        if after > self.rules.unsecured_limit:
            message = (
                f"with this deposit of {deposit} the router would hold the keys to {after} base units; it takes "
                f"{self.rules.unsecured_limit} beyond its bond. Deposit less, or keep your own session key"
            )
            raise Refusal(403, "managed_limit_reached", message)
