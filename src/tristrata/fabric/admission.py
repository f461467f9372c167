"""Who may connect: an auth callout beside the NATS server, which admits registered miners to their own subjects."""

import base64
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nkeys
import structlog
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from tristrata.fabric import subjects
from tristrata.fabric.connection import settle
from tristrata.fabric.keys import parse_public
from tristrata.fabric.server import NETWORK_ACCOUNT, issuer_text
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address

Admit = Callable[[bytes], Awaitable[Address | None]]
"""From a 32-byte NATS public key to the miner it belongs to, or `None` for a stranger."""

_CALLOUT = "$SYS.REQ.USER.AUTH"
_QUEUE = "admission"
_log = structlog.get_logger()


class Admission:
    """Answers the server's question about every newcomer. Knows no chain: ``admit`` does."""

    def __init__(self, connection: Client, issuer_seed: bytes, admit: Admit) -> None:
        self._connection = connection
        self._issuer = nkeys.from_seed(issuer_text(issuer_seed))
        self._admit = admit

    async def start(self) -> None:
        """Begin to answer; where several do, beside each server of a cluster one, any of them answers a question."""
        await self._connection.subscribe(_CALLOUT, queue=_QUEUE, cb=self._answer)
        await settle(self._connection)

    async def _answer(self, message: Msg) -> None:
        request = _claims(message.data)["nats"]
        user = request["user_nkey"]
        response: dict[str, Any] = {"version": 2, "type": "authorization_response"}
        try:
            miner = await self._check(request)
            response["jwt"] = self._permission(user, miner)
        except InvalidValue as refusal:
            _log.info("refused", reason=refusal.message)
            response["error"] = refusal.message
        claims = {"aud": request["server_id"]["id"], "sub": user, "nats": response}
        await message.respond(self._jwt(claims).encode())

    async def _check(self, request: dict[str, Any]) -> Address:
        options = request["connect_opts"]
        key = parse_public(options.get("nkey", ""))
        nonce = request.get("request_nonce") or request["client_info"].get("nonce", "")
        _check_signature(key, options.get("sig", ""), nonce)
        miner = await self._admit(key)
        if miner is None:
            raise InvalidValue("this NATS key belongs to no active miner: register it on a hub first")
        return miner

    def _permission(self, user: str, miner: Address) -> str:
        permission = {
            # No permission to respond where it was asked to: the server would remember each request until that expires.
            "pub": {"allow": [subjects.status(miner), subjects.own_replies(miner)]},
            "sub": {"allow": [subjects.inbox(miner), subjects.HELLO]},
            "subs": -1,
            "data": -1,
            "payload": -1,
            "version": 2,
            "type": "user",
        }
        return self._jwt({"name": miner.hex(), "sub": user, "aud": NETWORK_ACCOUNT, "nats": permission})

    def _jwt(self, claims: dict[str, Any]) -> str:
        claims = {**claims, "iat": int(time.time()), "iss": self._issuer.public_key.decode()}
        claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
        header = _base64(b'{"typ":"JWT","alg":"ed25519-nkey"}')
        body = f"{header}.{_base64(json.dumps(claims).encode())}"
        return f"{body}.{_base64(self._issuer.sign(body.encode()))}"


def _check_signature(key: bytes, signature: str, nonce: str) -> None:
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    try:
        VerifyKey(key).verify(nonce.encode(), raw)
    except (BadSignatureError, ValueError) as error:
        raise InvalidValue("the server's nonce is not signed by this NATS key") from error


def _claims(token: bytes) -> dict[str, Any]:
    body = token.split(b".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    return claims


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
