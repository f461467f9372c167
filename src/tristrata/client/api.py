"""A client of the router's HTTP API: account calls, and chat answers as they stream."""

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from tristrata.client.orders import SignedPermit
from tristrata.client.sse import events
from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, SessionId, checksum, parse_address, parse_bytes32, show
from tristrata.protocol.orders import RequestClose, TopUp
from tristrata.protocol.sign_in import SignIn
from tristrata.protocol.terms import ApiKeyGrant, OpenSession, Registration

RECEIPT_EVENT = "tristrata.receipt"
END_OF_STREAM = "[DONE]"
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=120)


class RouterUnreachable(TristrataError):
    """Nothing answers at the router's address."""


class RouterRefused(TristrataError):
    """The router answered with an error; ``status`` is HTTP's and ``code`` the error's own name."""

    def __init__(self, message: str, *, status: int, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class RouterTerms(msgspec.Struct, frozen=True):
    """Whom one deals with: the router's account, its share, its limits (base units), its hubs and models by name."""

    address: str
    router_bps: int
    unsecured_limit: str
    managed_deposits: str
    onboarding: str
    hubs: list[str]
    models: dict[str, str]


class Sponsored(msgspec.Struct, frozen=True):
    """A registration that the router carried to the Welcome Center, and what that cost the router."""

    chain: str
    tx: str
    block: int
    gas: int


class SessionOpened(msgspec.Struct, frozen=True):
    """A session that the router carried to its chain, and what that cost the router."""

    session: str
    tx: str
    block: int
    gas: int


class SignInNonce(msgspec.Struct, frozen=True):
    """What a sign-in message is to say: the router's nonce and domain, and a chain id of an ecosystem's."""

    nonce: str
    expires_at: int
    domain: str
    chain_ids: dict[str, list[str]]


class SignedIn(msgspec.Struct, frozen=True):
    """A token that stands for ``account`` at the router until ``expires_at`` (Unix seconds)."""

    token: str
    account: str
    expires_at: int


class TextDelta(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    text: str


class AnswerDone(msgspec.Struct, frozen=True):
    """The end of the answer: why it ended, and the tokens used."""

    finish_reason: str
    prompt_tokens: int
    output_tokens: int


class ReceiptArrived(msgspec.Struct, frozen=True):
    """The miner's signed receipt, as the router's last event carries it."""

    document: dict[str, Any]


StreamEvent = TextDelta | AnswerDone | ReceiptArrived


class RouterApi:
    """One router. Use as an async context manager; calls raise `RouterUnreachable` or `RouterRefused`."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The router's address."""
        return self._url

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def terms(self) -> RouterTerms:
        """What the router offers."""
        return msgspec.convert(await self._call("GET", "/v1/router"), RouterTerms)

    async def register(self, registration: Registration, signature: bytes) -> Sponsored:
        """Have the router carry a signed registration to the Welcome Center; the router pays the gas."""
        body = {
            "account": checksum(registration.account),
            "role": registration.role.name.lower(),
            "deadline": registration.deadline,
            "signature": show(signature),
        }
        return msgspec.convert(await self._call("POST", "/v1/registrations", body), Sponsored)

    async def hubs_that_know(self, account: Address) -> list[str]:
        """The hubs (CAIP-2) where an account's registration has arrived."""
        answer = await self._call("GET", f"/v1/registrations/{account.hex()}")
        return [str(hub) for hub in answer["hubs"]]

    async def session_key(self, hub: str, owner: Address, nonce: int) -> tuple[SessionId, Address]:
        """The id that the owner's next session will have, and the key with which the router would serve it."""
        body = {"hub": hub, "owner": checksum(owner), "nonce": str(nonce)}
        answer = await self._call("POST", "/v1/session-keys", body)
        return SessionId(parse_bytes32(answer["session"], "session")), parse_address(answer["session_key"])

    async def open_session(self, hub: str, order: OpenSession, signature: bytes, permit: SignedPermit) -> SessionOpened:
        """Have the router carry a signed order to the hub; the router pays the gas."""
        body = {
            "hub": hub,
            "order": codec.order_to_json(order),
            "signature": show(signature),
            "permit": {
                "deadline": permit.deadline,
                "r": show(permit.signature[:32]),
                "s": show(permit.signature[32:64]),
                "v": permit.signature[64],
            },
        }
        return msgspec.convert(await self._call("POST", "/v1/sessions", body), SessionOpened)

    async def grant_api_key(self, hub: str, grant: ApiKeyGrant, signature: bytes) -> None:
        """Let an API key use a session. Saying it twice is the same as once."""
        body = {
            "hub": hub,
            "session": show(grant.session),
            "key_hash": show(grant.key_hash),
            "deadline": grant.deadline,
            "signature": show(signature),
        }
        await self._call("POST", "/v1/api-keys", body)

    async def session(self, session: SessionId) -> dict[str, Any]:
        """A session's money: deposit, charged, cumulative, exposure, available."""
        return await self._call("GET", f"/v1/sessions/{session.hex()}")

    async def sessions(self, *, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """The caller's sessions, the newest first: ``data``, and whether there are more after its last."""
        return await self._call("GET", "/v1/sessions", query={"limit": limit, "after": after})

    async def top_up(self, order: TopUp, signature: bytes) -> dict[str, Any]:
        """Have the router carry a payer's top-up; gives the session after it."""
        body = {
            "payer": checksum(order.payer),
            "amount": str(order.amount),
            "salt": show(order.salt),
            "deadline": order.deadline,
            "signature": show(signature),
        }
        return await self._call("POST", f"/v1/sessions/{order.session.hex()}/top-up", body)

    async def close_session(self, order: RequestClose, signature: bytes) -> dict[str, Any]:
        """Have the router carry a party's request to close; gives the session after it."""
        body = {"sender": checksum(order.sender), "deadline": order.deadline, "signature": show(signature)}
        return await self._call("POST", f"/v1/sessions/{order.session.hex()}/close", body)

    async def refund(self, session: SessionId) -> dict[str, Any]:
        """Have the router close a session whose time has come, so that the rest goes back to its owner."""
        return await self._call("POST", f"/v1/sessions/{session.hex()}/refund")

    async def awaiting(self, session: SessionId, *, limit: int = 1_000) -> list[dict[str, Any]]:
        """The receipts of a session with an own key that await its owner's vouchers, in the order they ended."""
        answer = await self._call("GET", f"/v1/sessions/{session.hex()}/awaiting", query={"limit": limit})
        found: list[dict[str, Any]] = answer["data"]
        return found

    async def send_vouchers(self, session: SessionId, signatures: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
        """Send the owner's signatures by request id, each over the voucher that acknowledges it next.

        Raises `RouterRefused` (409) when they do not continue the session as the router has it.
        """
        vouchers = [{"request_id": show(request), "signature": show(signature)} for request, signature in signatures]
        return await self._call("POST", f"/v1/sessions/{session.hex()}/vouchers", {"vouchers": vouchers})

    async def sign_in_nonce(self) -> SignInNonce:
        """A nonce to sign in with, once, and what the message is to say besides."""
        return msgspec.convert(await self._call("POST", "/v1/signin/nonce"), SignInNonce)

    async def sign_in(self, message: SignIn, signature: bytes) -> SignedIn:
        """Exchange a signed message for a token, which stands for its account for an hour."""
        body = {"message": message.text, "signature": show(signature)}
        return msgspec.convert(await self._call("POST", "/v1/signin", body), SignedIn)

    async def api_keys(self, *, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """The owner's API keys, the newest first; never their secrets."""
        return await self._call("GET", "/v1/api-keys", query={"limit": limit, "after": after})

    async def create_api_key(self, **fields: Any) -> dict[str, Any]:
        """A new key, with its ``secret`` this once: ``name``, ``scopes``, ``budget``, ``expires_at``, ``sessions``."""
        return await self._call("POST", "/v1/api-keys", fields)

    async def change_api_key(self, key_id: str, **fields: Any) -> dict[str, Any]:
        """Change a key's ``name``, ``budget`` or ``expires_at``."""
        return await self._call("POST", f"/v1/api-keys/{key_id}", fields)

    async def rotate_api_key(self, key_id: str, grace_seconds: int = 3_600) -> dict[str, Any]:
        """A key's next ``secret``; the one before stays valid for ``grace_seconds``."""
        return await self._call("POST", f"/v1/api-keys/{key_id}/rotate", {"grace_seconds": grace_seconds})

    async def revoke_api_key(self, key_id: str) -> dict[str, Any]:
        """End a key at once."""
        return await self._call("DELETE", f"/v1/api-keys/{key_id}")

    async def usage(self, **query: Any) -> dict[str, Any]:
        """What was used by day, session and key: ``start``, ``end`` (days), ``limit``, ``page``."""
        return await self._call("GET", "/v1/usage", query=query)

    async def receipts(self, **query: Any) -> dict[str, Any]:
        """The caller's receipts, the newest first: ``session``, ``limit``, ``after``."""
        return await self._call("GET", "/v1/receipts", query=query)

    async def receipt(self, request_id: str) -> dict[str, Any]:
        """A receipt with its voucher and how far it has come (``stage``)."""
        return await self._call("GET", f"/v1/receipts/{request_id.removeprefix('0x')}")

    async def proof(self, request_id: str) -> dict[str, Any]:
        """A receipt file (`tristrata.protocol.proof`): the receipt with its way to Ethereum, as far as it has come."""
        return await self._call("GET", f"/v1/receipts/{request_id.removeprefix('0x')}/proof")

    async def health(self) -> dict[str, Any]:
        """The router's own account of its health."""
        return await self._call("GET", "/health")

    async def stream_chat(self, request: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Ask, and give the answer piece by piece; the receipt comes last, after OpenAI's ``[DONE]``."""
        body = {**request, "stream": True, "stream_options": {"include_usage": True}}
        finish_reason = "stop"
        try:
            async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as response:
                if response.status != 200:
                    await _refuse(response)
                async for event in events(response.content.iter_any()):
                    if event.data == END_OF_STREAM:
                        continue
                    data = msgspec.json.decode(event.data)
                    if event.name == RECEIPT_EVENT:
                        yield ReceiptArrived(data)
                    elif "error" in data:
                        raise _refusal(response.status, data["error"])
                    elif data["choices"]:
                        choice = data["choices"][0]
                        finish_reason = choice.get("finish_reason") or finish_reason
                        if text := choice["delta"].get("content"):
                            yield TextDelta(text)
                    elif usage := data.get("usage"):
                        yield AnswerDone(finish_reason, usage["prompt_tokens"], usage["completion_tokens"])
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("RouterApi is used outside 'async with'")
        return self._http

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        asked = {name: str(value) for name, value in (query or {}).items() if value is not None}
        try:
            async with self._session.request(method, self._url + path, json=body, params=asked) as response:
                if response.status >= 400:
                    await _refuse(response)
                answer: dict[str, Any] = msgspec.json.decode(await response.read())
                return answer
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> RouterUnreachable:
        return RouterUnreachable(
            f"the router at {self._url} does not answer: {error}", remedy="see whether it runs: tristrata status"
        )


async def _refuse(response: aiohttp.ClientResponse) -> None:
    raw = await response.read()
    try:
        error = msgspec.json.decode(raw)["error"]
    except (msgspec.DecodeError, KeyError, TypeError):
        error = {"message": raw[:200].decode(errors="replace"), "code": None}
    raise _refusal(response.status, error)


def _refusal(status: int, error: dict[str, Any]) -> RouterRefused:
    return RouterRefused(error.get("message") or "the router gave no reason", status=status, code=error.get("code"))
