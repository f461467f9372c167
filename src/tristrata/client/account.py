"""An account on the network: registered on the Welcome Center, with sessions on the hubs, all by signature.

Whom and what one signs for comes from the network file and the manifest, never from the router's word.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from coincurve import PrivateKey

from tristrata.bindings.hub import Hub, open_hubs
from tristrata.bindings.welcome import Welcome
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.client.api import RouterApi, SessionOpened, SignedIn, Sponsored
from tristrata.client.orders import (
    grant_for,
    new_api_key,
    sign_close,
    sign_grant,
    sign_order,
    sign_permit,
    sign_registration,
    sign_top_up,
)
from tristrata.config.actor import ActorSettings
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2, ModelId, SessionId, parse_address, parse_bytes32, session_id
from tristrata.protocol.orders import RequestClose, TopUp
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.sign_in import Ecosystem, SignIn, SignInRefused, sign_message
from tristrata.protocol.signing import address_of
from tristrata.protocol.terms import OpenSession, Registration, Role, Terms
from tristrata.protocol.units import Amount, BasisPoints, PricePerMillion, Timestamp

_SIGNATURE_SECONDS = 3_600
_ARRIVAL_SECONDS = 60.0
_POLL_SECONDS = 0.1


class RegistrationNotArrived(TristrataError):
    """A registration was made on the Welcome Center but is not known on a hub."""


class ModelUnknown(TristrataError):
    """The router does not serve this model."""


class HubUnknown(TristrataError):
    """The network has no hub of this name."""


class Budget(msgspec.Struct, frozen=True):
    """What a session may spend. Amounts are base units, prices base units per 1,000,000 tokens.

    ``max_per_day`` is 0 for no limit; ``seconds`` is how long the session lives.
    """

    deposit: Amount
    exposure_cap: Amount
    max_prompt_price: PricePerMillion
    max_output_price: PricePerMillion
    max_per_day: Amount = Amount(0)
    seconds: int = 30 * 86_400


class NewSession(msgspec.Struct, frozen=True):
    """A session that was opened now, and the API key that uses it; nobody else has that key."""

    session: SessionId
    api_key: str
    opened: SessionOpened


class Account:
    """One owner's key at one router. ``welcome`` and ``hubs`` are the contracts that it signs for."""

    def __init__(self, key: PrivateKey, router: RouterApi, welcome: Welcome, hubs: Mapping[Caip2, Hub]) -> None:
        self._key = key
        self._router = router
        self._welcome = welcome
        self._hubs = hubs
        self.address: Address = address_of(key.public_key)

    def hub(self, name: str) -> Hub:
        """One of the hubs, by its name in the network file. Raises `HubUnknown`."""
        for hub in self._hubs.values():
            if hub.name == name:
                return hub
        known = ", ".join(hub.name for hub in self._hubs.values())
        raise HubUnknown(f"there is no hub {name!r}; there is {known}", remedy="name one of these")

    async def join(self, hub: Hub) -> None:
        """Register the account, unless the hub knows it. Raises `RegistrationNotArrived`."""
        if hub.caip2 not in await self._router.hubs_that_know(self.address):
            await self.register()
            await self.wait_until_known(hub)

    async def register(self, role: Role = Role.USER) -> Sponsored:
        """Sign a registration and have the router, as sponsor, carry it to the Welcome Center."""
        registration = Registration(self.address, role, _deadline())
        signature = sign_registration(self._key, self._welcome.domain, registration)
        return await self._router.register(registration, signature)

    async def wait_until_known(self, hub: Hub) -> None:
        """Wait until the registration has arrived on the hub. Raises `RegistrationNotArrived` after a minute."""
        deadline = time.monotonic() + _ARRIVAL_SECONDS
        while time.monotonic() < deadline:
            head = (await hub.chain.block(Level.SOFT)).number
            if await hub.sessions.read("registered", self.address, at=head):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise RegistrationNotArrived(
            f"the registration on {self._welcome.name} has not arrived on {hub.name} within a minute",
            remedy="see whether a relayer runs: tristrata status",
        )

    async def open_session(
        self,
        hub: Hub,
        model: str,
        budget: Budget,
        *,
        session_key: Address | None = None,
        api_key: str | None = None,
    ) -> NewSession:
        """Sign an order, a permit and an API-key grant, and have the router carry them. Raises `ModelUnknown`.

        With a ``session_key`` the session is not managed: its holder signs the vouchers. An ``api_key`` that is there
        already may use this session, too; else there is a new one.
        """
        router = await self._router.terms()
        if model not in router.models:
            known = ", ".join(router.models)
            raise ModelUnknown(f"model {model!r} is not served by this router; it serves {known}")
        nonce = secrets.randbits(64)
        session = session_id(hub.ref, self.address, nonce)
        if session_key is None:
            _, managed_key = await self._router.session_key(hub.caip2, self.address, nonce)
        terms = Terms(
            session_key=session_key or managed_key,
            router=parse_address(router.address),
            managed=session_key is None,
            model_id=ModelId(parse_bytes32(router.models[model], "model id")),
            assurance=Assurance.NONE,
            replicas=1,
            router_bps=BasisPoints(router.router_bps),
            max_prompt_price=budget.max_prompt_price,
            max_output_price=budget.max_output_price,
            max_per_day=budget.max_per_day,
            exposure_cap=budget.exposure_cap,
            expiry=Timestamp(int(time.time()) + budget.seconds),
        )
        order = OpenSession(self.address, nonce, budget.deposit, _deadline(), terms)
        signature = sign_order(self._key, hub.sessions_domain, order)
        permit = sign_permit(
            self._key,
            await hub.asset_domain(),
            self.address,
            hub.sessions.address,
            order.deposit,
            await hub.permit_nonce(self.address),
            _deadline(),
        )
        opened = await self._router.open_session(hub.caip2, order, signature, permit)
        api_key = api_key or new_api_key()
        grant = grant_for(session, api_key, _deadline())
        await self._router.grant_api_key(hub.caip2, grant, sign_grant(self._key, hub.sessions_domain, grant))
        return NewSession(session, api_key, opened)

    async def top_up(self, hub: Hub, session: SessionId, amount: Amount, *, router: RouterApi) -> dict[str, Any]:
        """Sign a top-up from this account, and have ``router``, signed in or with a key of the session, carry it."""
        order = TopUp(session, self.address, amount, secrets.token_bytes(32), _deadline())
        signature = sign_top_up(self._key, await hub.asset_domain(), hub.sessions_domain, order)
        return await router.top_up(order, signature)

    async def close_session(self, hub: Hub, session: SessionId) -> dict[str, Any]:
        """Sign a request to close a session of this account's, and have the router carry it."""
        order = RequestClose(session, self.address, _deadline())
        return await self._router.close_session(order, sign_close(self._key, hub.sessions_domain, order))

    async def sign_in(self) -> SignedIn:
        """Sign in at the router: a token that lists and manages what is this account's."""
        nonce = await self._router.sign_in_nonce()
        now = datetime.now(UTC)
        message = SignIn(
            ecosystem=Ecosystem.ETHEREUM,
            domain=nonce.domain,
            account=self.address,
            uri=f"http://{nonce.domain}",
            chain_id=nonce.chain_ids[Ecosystem.ETHEREUM.lower()][0],
            nonce=nonce.nonce,
            issued_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            statement="Sign in to manage sessions and API keys.",
        )
        if nonce.domain != urlsplit(self._router.url).netloc:
            raise SignInRefused(f"the router at {self._router.url} asks to sign in to {nonce.domain!r}")
        return await self._router.sign_in(message, sign_message(self._key, message))


@asynccontextmanager
async def open_account(settings: ActorSettings, key: PrivateKey) -> AsyncIterator[Account]:
    """The account of ``key`` at the network's router, with connections to its chains."""
    network = settings.network
    async with Chains(network) as chains, RouterApi(settings.router) as router:
        onboarding = network.roles.onboarding[0]
        welcome = Welcome(network, settings.manifest, onboarding, chains[onboarding])
        yield Account(key, router, welcome, open_hubs(network, settings.manifest, chains))


def _deadline() -> Timestamp:
    return Timestamp(int(time.time()) + _SIGNATURE_SECONDS)
