"""Whom one deals with, and how an account gets onto the network: the router's terms, and registrations."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.chains.evm import Level
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import checksum, parse_address, show
from tristrata.protocol.terms import Registration, Role
from tristrata.router.accounts.bodies import body_of, parse_signature, parse_time
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.http import json_response


class _RegistrationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    account: str
    role: str
    deadline: int
    signature: str


class RegistrationsApi:
    """Registrations over a desk."""

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/router", self._terms),
            Route("/v1/registrations", self._register, methods=["POST"]),
            Route("/v1/registrations/{account}", self._registration),
        ]

    async def _terms(self, _: Request) -> Response:
        rules = self._desk.rules
        return json_response(
            {
                "address": checksum(rules.address),
                "router_bps": rules.router_bps,
                "unsecured_limit": str(rules.unsecured_limit),
                "managed_deposits": str(self._desk.managed_deposits),
                "unvouchered_limit": str(rules.unvouchered_limit),
                "onboarding": self._desk.welcome.caip2,
                "hubs": list(self._desk.hubs),
                "models": {model.name: show(model.model_id) for model in rules.models},
            }
        )

    async def _register(self, request: Request) -> Response:
        desk = self._desk
        body = await body_of(request, _RegistrationBody)
        if body.role.upper() not in Role.__members__:
            raise InvalidValue(f"role {body.role!r} must be one of user, miner")
        deadline = parse_time(body.deadline, "deadline")
        registration = Registration(parse_address(body.account), Role[body.role.upper()], deadline)
        signature = parse_signature(body.signature)
        writer = await desk.writer(desk.welcome.caip2)
        with desk.sponsor.pays(b"registrations", desk.rules.sponsored_per_day, "registrations"):
            done = await desk.welcome.register(writer, registration, signature)
        return json_response(
            {"chain": desk.welcome.caip2, "tx": show(done.tx_hash), "block": done.block, "gas": done.gas_used}
        )

    async def _registration(self, request: Request) -> Response:
        account = parse_address(request.path_params["account"])
        known = []
        for caip2, follower in self._desk.hubs.items():
            head = await follower.hub.chain.block(Level.SOFT)
            if await follower.hub.sessions.read("registered", account, at=head.number):
                known.append(caip2)
        return json_response({"account": checksum(account), "hubs": known})
