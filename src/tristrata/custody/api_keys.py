"""The user's own API keys, in a file that only its owner reads."""

from pathlib import Path

import msgspec

from tristrata.protocol.ids import SessionId, show


class KeptKey(msgspec.Struct, frozen=True):
    """An API key of this machine's user, and the session that it uses (hex)."""

    api_key: str
    session: str


def read_api_keys(path: Path) -> dict[str, KeptKey]:
    """The user's API keys in a file, by hub name; empty when there are none yet."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, KeptKey])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


def keep_api_key(path: Path, hub: str, api_key: str, session: SessionId) -> None:
    """Write down the user's key for a hub, readable by its owner only."""
    keys = {**read_api_keys(path), hub: KeptKey(api_key, show(session))}
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_bytes(msgspec.json.encode(keys))
    temporary.replace(path)
