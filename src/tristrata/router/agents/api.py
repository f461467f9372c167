"""Agents' documents over HTTP: the card and registration of the router, those of its miners, and A2A's endpoint."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.bindings.hub import Hub
from tristrata.client.paths import PathFinder
from tristrata.config.network import Agents
from tristrata.fabric.frames import Status
from tristrata.protocol.ids import Address, Caip2, checksum, parse_address, show
from tristrata.router.accounts.bodies import parse_limit
from tristrata.router.agents.a2a import PATH, Messages, agent_card
from tristrata.router.agents.registrations import (
    CARD_PATH,
    REGISTRATION_PATH,
    miner_registration,
    router_registration,
    validation_record,
)
from tristrata.router.callers import Callers
from tristrata.router.endpoint import Endpoint
from tristrata.router.http import Refusal, json_response
from tristrata.router.hubs import HubFollower
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.presence import Presence
from tristrata.storage.api_keys import Scope

MAX_EPOCHS = 100
"""Of how many epochs back validation records are told."""


class AgentsApi:
    """One router's documents. ``url`` is where it answers."""

    def __init__(
        self,
        agents: Agents,
        url: str,
        address: Address,
        models: list[ServedModel],
        *,
        followers: Mapping[Caip2, HubFollower],
        presence: Presence,
        finder: PathFinder,
        callers: Callers,
        messages: Messages,
        takes_x402: bool,
    ) -> None:
        self._agents = agents
        self._url = url.rstrip("/")
        self._models = {bytes(model.model_id): model.name for model in models}
        self._followers = followers
        self._presence = presence
        self._finder = finder
        self._a2a = Endpoint(callers, Scope.INFERENCE, messages.answer)
        wallets = [(chain, address) for chain in followers]
        self._registration = router_registration(agents, self._url, wallets, takes_x402=takes_x402)
        chats = [model.name for model in models if not model.embeds]
        self._card = agent_card(self._url, agents.name, agents.description, chats)

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route(CARD_PATH, self._show_card),
            Route(REGISTRATION_PATH, self._show_registration),
            Route(PATH, self._a2a, methods=["POST"]),
            Route("/v1/miners", self._list_miners),
            Route("/v1/miners/{miner}/registration", self._show_miner),
            Route("/v1/miners/{miner}/validations", self._list_validations),
        ]

    async def _show_card(self, _: Request) -> Response:
        return json_response(self._card)

    async def _show_registration(self, _: Request) -> Response:
        return json_response(self._registration)

    async def _list_miners(self, request: Request) -> Response:
        limit, market = parse_limit(request), self._presence.market
        data = [self._describe(each) for each in islice(market.statuses(), limit)]
        return json_response({"object": "list", "data": data, "has_more": len(market) > limit})

    async def _show_miner(self, request: Request) -> Response:
        miner, hubs = self._miner(request)
        status = self._presence.market.status(miner)
        return json_response(miner_registration(self._agents, self._url, miner, hubs, status, self._models))

    async def _list_validations(self, request: Request) -> Response:
        miner, hubs = self._miner(request)
        limit = min(parse_limit(request), MAX_EPOCHS)
        data = []
        for chain in hubs:
            hub: Hub = self._followers[chain].hub
            for sealed, receipts in await self._finder.audited(hub, miner, limit):
                data.append(validation_record(self._agents, chain, hub.outbox.address, miner, sealed, receipts))
        return json_response({"object": "list", "data": data})

    def _miner(self, request: Request) -> tuple[Address, list[Caip2]]:
        """The miner that the URL names, and the hubs that know it. Raises `Refusal` (404) or `InvalidValue`."""
        miner = parse_address(request.path_params["miner"])
        hubs = [chain for chain, follower in self._followers.items() if miner in follower.facts.signing_keys]
        if not hubs:
            raise Refusal(404, "miner_not_found", f"no hub knows a miner {checksum(miner)}")
        return miner, hubs

    def _describe(self, status: Status) -> dict[str, Any]:
        return {
            "object": "miner",
            "id": checksum(Address(status.miner)),
            "offers": [
                {
                    "chain": offer.chain,
                    "model": self._models.get(offer.model_id, show(offer.model_id)),
                    "prompt_price": str(offer.prompt_price),
                    "output_price": str(offer.output_price),
                    "features": sorted(offer.features),
                }
                for offer in status.offers
            ],
        }
