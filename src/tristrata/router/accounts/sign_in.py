"""Signing in with a wallet: a nonce, a signed message, a token for an hour."""

import base58
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import evm_chain_id
from tristrata.protocol.sign_in import (
    Ecosystem,
    SignInRefused,
    check_sign_in,
    parse_sign_in,
    require_signed,
    show_account,
)
from tristrata.router.accounts.bodies import body_of
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.accounts.tokens import NONCE_SECONDS
from tristrata.router.http import json_response
from tristrata.storage.nonces import UsedNonces

_MAX_SIGNATURE = 200
# No message is worth more on one of these chains than on another: what binds it is domain, nonce and account.
_SOLANA_CLUSTERS = ("mainnet", "testnet", "devnet", "localnet")


class _SignInBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    message: str
    signature: str


class SignInApi:
    """Sign-in over a desk."""

    def __init__(self, desk: AccountDesk) -> None:
        self._desk = desk
        self._nonces = UsedNonces(desk.database)
        chains = (desk.welcome.caip2, *desk.hubs)
        self._chain_ids = {
            Ecosystem.ETHEREUM: frozenset(str(evm_chain_id(chain)) for chain in chains if chain.startswith("eip155:")),
            Ecosystem.SOLANA: frozenset(
                (
                    *_SOLANA_CLUSTERS,
                    *(f"solana:{name}" for name in _SOLANA_CLUSTERS),
                    *(c for c in chains if c.startswith("solana:")),
                )
            ),
        }

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/signin/nonce", self._nonce, methods=["POST"]),
            Route("/v1/signin", self._sign_in, methods=["POST"]),
        ]

    async def _nonce(self, _: Request) -> Response:
        nonce, expires_at = self._desk.tokens.new_nonce(self._desk.clock())
        return json_response(
            {
                "nonce": nonce,
                "expires_at": expires_at,
                "domain": self._desk.rules.domain,
                "chain_ids": {ecosystem.lower(): sorted(ids) for ecosystem, ids in self._chain_ids.items()},
            },
            headers={"cache-control": "no-store"},
        )

    async def _sign_in(self, request: Request) -> Response:
        desk, body = self._desk, await body_of(request, _SignInBody)
        message = parse_sign_in(body.message)
        now = desk.clock()
        chain_ids = self._chain_ids[message.ecosystem]
        check_sign_in(message, domain=desk.rules.domain, chain_ids=chain_ids, now=now, max_age=NONCE_SECONDS)
        nonce_expires = desk.tokens.read_nonce(message.nonce, now)
        if nonce_expires is None:
            raise SignInRefused("the nonce is not from here, or has expired", remedy="POST /v1/signin/nonce")
        require_signed(message, _signature(body.signature))
        if not await self._nonces.use(message.nonce, nonce_expires, desk.now):
            raise SignInRefused("the nonce was used before", remedy="POST /v1/signin/nonce")
        token, expires_at = desk.tokens.new_token(message.account, now)
        told = {"token": token, "account": show_account(message.account), "expires_at": expires_at}
        return json_response(told, headers={"cache-control": "no-store"})


def _signature(text: str) -> bytes:
    if len(text) > _MAX_SIGNATURE:
        raise InvalidValue(f"a signature has at most {_MAX_SIGNATURE} characters")
    try:
        signature: bytes = bytes.fromhex(text[2:]) if text.startswith("0x") else base58.b58decode(text)
    except ValueError as error:
        raise InvalidValue("a signature must be hexadecimal with 0x, or base58") from error
    return signature
