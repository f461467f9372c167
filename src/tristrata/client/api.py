"""A client of the router's HTTP API: account calls, and chat answers as they stream."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from tristrata.client.orders import SignedPermit
from tristrata.client.sse import events
from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, SessionId, checksum, parse_address, parse_bytes32, show
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

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            async with self._session.request(method, self._url + path, json=body) as response:
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
