"""The router's own sessions, out of which miners are paid for calls that others pay one by one.

It opens one a hub and model from its wallet, and tops it up from what it was paid.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from coincurve import PrivateKey

from tristrata.chains.evm import Level
from tristrata.client.orders import sign_order, sign_permit, sign_registration, sign_top_up
from tristrata.config.network import PayPerCall as PayPerCallSettings
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Caip2, ModelId, SessionId, session_id
from tristrata.protocol.orders import TopUp
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.signing import address_of
from tristrata.protocol.terms import OpenSession, Registration, Role, Terms
from tristrata.protocol.units import Amount, PricePerMillion, Timestamp
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.fleet import OwnedElsewhere
from tristrata.router.hubs import HubFollower
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.sessions import ServedSession

_LOOK_SECONDS = 2.0
_SIGNATURE_SECONDS = 3_600
_SESSION_SECONDS, _LEAST_SECONDS = 90 * 86_400, 86_400
_log = structlog.get_logger()


class HouseSessions:
    """The sessions of the router's ``key``, on ``hubs``."""

    def __init__(
        self,
        settings: PayPerCallSettings,
        desk: AccountDesk,
        key: PrivateKey,
        hubs: Sequence[Caip2],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.owner = address_of(key.public_key)
        self.hubs = tuple(hubs)
        self._settings = settings
        self._desk = desk
        self._key = key
        self._clock = clock

    def find(self, chain: Caip2, model: ModelId) -> ServedSession | None:
        """The session on a hub that pays for a model: the newest that is not ending."""
        found = [
            session
            for session in self._of(chain, model)
            if not session.book.ending and session.book.terms.expiry > self._clock() + _LEAST_SECONDS
        ]
        return found[-1] if found else None

    async def run(self) -> None:
        """Open and top up what is missing, until cancelled; one router of a fleet does."""
        told = ""
        while True:
            for chain in self.hubs:
                for model in self._desk.rules.models:
                    try:
                        await self._provide(self._desk.hub(chain), model)
                    except OwnedElsewhere:
                        pass
                    except TristrataError as error:
                        if error.message != told:
                            _log.warning("no session to pay miners from", model=model.name, reason=error.message)
                        told = error.message
            await asyncio.sleep(_LOOK_SECONDS)

    def _of(self, chain: Caip2, model: ModelId) -> list[ServedSession]:
        sessions = (self._desk.sessions.get(session) for session in self._desk.sessions.of(self.owner))
        return [each for each in sessions if each.hub.chain == chain and each.book.terms.model_id == model]

    async def _provide(self, follower: HubFollower, model: ServedModel) -> None:
        hub, deposit = follower.hub, Amount(self._settings.session_deposit)
        session = self.find(hub.caip2, model.model_id)
        if session is not None and 2 * (session.book.deposit - session.book.cumulative) >= deposit:
            return
        await self._desk.writer(hub.caip2)  # of a fleet, only the leader goes on
        head = (await hub.chain.block(Level.SOFT)).number
        if await hub.balance(self.owner, at=head) < deposit:
            raise _poor(hub.name, deposit)
        if session is None:
            await self._open(follower, model, deposit)
        else:
            await self._top_up(follower, session.book.session, deposit)
        await follower.catch_up()

    async def _open(self, follower: HubFollower, model: ServedModel, deposit: Amount) -> None:
        hub, rules, deadline = follower.hub, self._desk.rules, self._deadline()
        head = (await hub.chain.block(Level.SOFT)).number
        if not await hub.sessions.read("registered", self.owner, at=head):
            await self._register()
            return  # the registration travels; this is looked at again
        # The same until it is open: what a crash has left half done is found again by its purpose.
        count = len(self._of(hub.caip2, model.model_id))
        nonce = int.from_bytes(keccak(model.model_id + count.to_bytes(8, "big"))[:8], "big")
        session = session_id(hub.ref, self.owner, nonce)
        terms = Terms(
            session_key=address_of(follower.session_key(session).public_key),
            router=rules.address,
            managed=True,
            model_id=model.model_id,
            assurance=Assurance.NONE,
            replicas=1,
            router_bps=rules.router_bps,
            max_prompt_price=PricePerMillion(self._settings.prompt_price),
            max_output_price=PricePerMillion(self._settings.output_price),
            max_per_day=Amount(0),
            exposure_cap=deposit,
            expiry=Timestamp(int(self._clock()) + _SESSION_SECONDS),
        )
        order = OpenSession(self.owner, nonce, deposit, deadline, terms)
        spender, permit_nonce = hub.sessions.address, await hub.permit_nonce(self.owner)
        asset = await hub.asset_domain()
        permit = sign_permit(self._key, asset, self.owner, spender, deposit, permit_nonce, deadline)
        signature = sign_order(self._key, hub.sessions_domain, order)
        await hub.open_for(await self._desk.writer(hub.caip2), session, order, signature, permit)
        _log.info("session opened to pay miners from", model=model.name, hub=hub.name, deposit=deposit)

    async def _register(self) -> None:
        welcome = self._desk.welcome
        head = (await welcome.chain.block(Level.SOFT)).number
        if not await welcome.roles(self.owner, at=head) & 1:
            registration = Registration(self.owner, Role.USER, self._deadline())
            signature = sign_registration(self._key, welcome.domain, registration)
            await welcome.register(await self._desk.writer(welcome.caip2), registration, signature)

    async def _top_up(self, follower: HubFollower, session: SessionId, amount: Amount) -> None:
        hub, deposit = follower.hub, self._desk.sessions.get(session).book.deposit
        salt = keccak(session + deposit.to_bytes(16, "big"))  # one top-up of a deposit, however often it is tried
        order = TopUp(session, self.owner, amount, salt, self._deadline())
        signature = sign_top_up(self._key, await hub.asset_domain(), hub.sessions_domain, order)
        await hub.top_up_for(await self._desk.writer(hub.caip2), order, signature)
        _log.info("session topped up to pay miners from", hub=hub.name, amount=amount)

    def _deadline(self) -> Timestamp:
        return Timestamp(int(self._clock()) + _SIGNATURE_SECONDS)


class HousePoor(TristrataError):
    """The router's wallet does not hold what one of its own sessions needs."""


def _poor(hub: str, deposit: Amount) -> HousePoor:
    return HousePoor(f"the router's wallet on {hub} holds less than {deposit} base units", remedy="send it some")
