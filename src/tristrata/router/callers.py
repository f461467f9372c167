"""Who asks: the API key or the sign-in token of a request, and the sessions that it may use. All in memory."""

import time
from collections.abc import Callable, Mapping
from hashlib import sha256

from starlette.requests import HTTPConnection

from tristrata.config.network import Serving
from tristrata.protocol.ids import ModelId, SessionId, parse_bytes32, show
from tristrata.router.http import Refusal
from tristrata.router.limits import Limiter
from tristrata.router.sessions import ServedSession, ServedSessions
from tristrata.storage.api_keys import ApiKey, ApiKeys, Scope

SESSION_HEADER = "x-tristrata-session"
SIGN_IN_PREFIX = "st-tri-"
"""What a sign-in token starts with; API keys start with ``sk-tri-``, or anything that their owner granted."""

ReadToken = Callable[[str, float], bytes | None]


class Caller:
    """Who sent a request: an owner by one of its API keys, by a sign-in token, or a payment.

    ``owner`` is the raw account. ``key`` is `None` where no API key was used. ``sessions`` are those that it may use,
    the newest last; ``chosen`` is the one that the request itself named.
    """

    def __init__(
        self,
        served: ServedSessions,
        owner: bytes,
        scopes: frozenset[Scope],
        *,
        key: ApiKey | None = None,
        sessions: tuple[SessionId, ...] = (),
        chosen: SessionId | None = None,
    ) -> None:
        self._served = served
        self.owner = owner
        self.scopes = scopes
        self.key = key
        self.sessions = sessions
        self.chosen = chosen

    @property
    def name(self) -> str:
        """Whom limits and logs mean: the key's id, or the owner's account. Never a secret."""
        return self.key.id if self.key else show(self.owner)

    def require(self, scope: Scope) -> None:
        """Raise `Refusal` (403) unless the caller has the scope."""
        if scope not in self.scopes:
            have = ", ".join(sorted(self.scopes))
            raise Refusal(403, "scope_missing", f"this needs the scope '{scope}'; the key has {have}")

    def session_for(self, model: ModelId, name: str = "") -> ServedSession:
        """The session that pays for a model: the one that the request names, else the newest that is not ending.

        ``name`` is the model's, for the error. Raises `Refusal` 400 or 404.
        """
        if self.chosen is not None:
            session = self.session(self.chosen)
            if session.book.terms.model_id != model:
                raise Refusal(
                    400, "wrong_model", f"session {show(self.chosen)} is not for {name or show(model)}", "model"
                )
            return session
        ending: ServedSession | None = None
        for session_id in reversed(self.sessions):
            served = self._served.find(session_id)
            if served is None or served.book.terms.model_id != model:
                continue
            if not served.book.ending:
                return served
            ending = ending or served
        if ending is not None:
            return ending
        if not self.sessions:
            raise Refusal(404, "session_not_found", "you have no session here: open one, and grant this key its use")
        raise Refusal(400, "wrong_model", f"none of your sessions is for {name or show(model)}: open one", "model")

    def session(self, session: SessionId) -> ServedSession:
        """One of the caller's sessions. Raises `Refusal` (404) for any other."""
        served = self._served.find(session) if session in self.sessions else None
        if served is None:
            raise Refusal(404, "session_not_found", f"you have no session {show(session)} here")
        return served

    def all_sessions(self) -> list[ServedSession]:
        """The caller's sessions that are served here, the newest last."""
        found = (self._served.find(session) for session in self.sessions)
        return [served for served in found if served is not None]


class Callers:
    """Tells who asks. ``read_token`` gives the account of a valid sign-in token, as of a time."""

    def __init__(
        self,
        keys: ApiKeys,
        served: ServedSessions,
        read_token: ReadToken = lambda token, now: None,
        clock: Callable[[], float] = time.time,
        limiter: Limiter | None = None,
    ) -> None:
        self.limiter = limiter or Limiter(Serving())
        self._keys = keys
        self._served = served
        self._read_token = read_token
        self._clock = clock

    def authenticate(self, request: HTTPConnection) -> Caller:
        """Who sent this request. Raises `Refusal` (401), or 400 for a malformed session header."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise Refusal(401, "invalid_api_key", "no API key was given: send it as 'Authorization: Bearer …'")
        chosen = _chosen(request.headers)
        now = self._clock()
        if secret.startswith(SIGN_IN_PREFIX):
            owner = self._read_token(secret, now)
            if owner is None:
                raise Refusal(401, "invalid_token", "this sign-in token is not valid, or has expired: sign in again")
            return Caller(self._served, owner, frozenset(Scope), sessions=self._served.of(owner), chosen=chosen)
        key = self._keys.find(sha256(secret.encode()).digest(), now)
        if key is None:
            raise Refusal(401, "invalid_api_key", "this API key is not known here, was revoked, or has expired")
        return Caller(self._served, key.owner, key.scopes, key=key, sessions=key.sessions, chosen=chosen)

    def later(self, owner: bytes, key_id: str) -> Caller:
        """Who asked for work that is done later: an owner, by one of its keys unless ``key_id`` is empty.

        Raises `Refusal` (401) for a key that is not valid any more.
        """
        if not key_id:
            return Caller(self._served, owner, frozenset(Scope), sessions=self._served.of(owner))
        key = self._keys.valid(key_id, self._clock())
        if key is None or key.owner != owner:
            raise Refusal(401, "invalid_api_key", f"the API key {key_id} was revoked, or has expired")
        return Caller(self._served, owner, key.scopes, key=key, sessions=key.sessions)


def _chosen(headers: Mapping[str, str]) -> SessionId | None:
    text = headers.get(SESSION_HEADER)
    return None if text is None else SessionId(parse_bytes32(text, SESSION_HEADER))
