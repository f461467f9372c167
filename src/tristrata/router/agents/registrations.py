"""Registration files and validation records as ERC-8004 has them (https://eips.ethereum.org/EIPS/eip-8004). Pure."""

from collections.abc import Sequence
from typing import Any

from tristrata.bindings.history import SealedEpoch
from tristrata.config.network import Agents
from tristrata.fabric.frames import Status
from tristrata.protocol.ids import Address, Caip2, checksum, show

TYPE = "https://eips.ethereum.org/EIPS/eip-8004#registration-v1"
CARD_PATH, REGISTRATION_PATH = "/.well-known/agent-card.json", "/.well-known/agent-registration.json"
A2A_VERSION, MCP_VERSION = "1.0", "2025-11-25"
TRUST = ["crypto-economic"]
"""Miners and routers answer with bonds; validators with stake."""

PASSED, TAG = 100, "epoch-recomputed"


def router_registration(
    agents: Agents, url: str, wallets: Sequence[tuple[Caip2, Address]], *, takes_x402: bool
) -> dict[str, Any]:
    """The router's registration file. ``url`` is where it answers, ``wallets`` are its accounts on hubs."""
    services = [
        {"name": "web", "endpoint": url},
        {"name": "OpenAI", "endpoint": f"{url}/v1"},
        {"name": "A2A", "endpoint": url + CARD_PATH, "version": A2A_VERSION},
    ]
    if agents.mcp is not None:
        services.append({"name": "MCP", "endpoint": agents.mcp, "version": MCP_VERSION})
    account = wallets[0][1] if wallets else None
    return {
        "type": TYPE,
        "name": agents.name,
        "description": agents.description,
        "image": agents.image,
        "services": [*services, *(_wallet(*wallet) for wallet in wallets)],
        "x402Support": takes_x402,
        "active": True,
        "registrations": _registrations(agents, account),
        "supportedTrust": TRUST,
    }


def miner_registration(
    agents: Agents, url: str, miner: Address, hubs: Sequence[Caip2], status: Status | None, models: dict[bytes, str]
) -> dict[str, Any]:
    """A miner's file, as the router that gives it work knows the miner; ``status`` is there while it is.

    ``models`` has names by model id.
    """
    offers = status.offers if status else ()
    served = sorted({models.get(offer.model_id, show(offer.model_id)) for offer in offers})
    return {
        "type": TYPE,
        "name": f"Tristrata miner {checksum(miner)}",
        "description": f"Answers with {', '.join(served)}." if served else "Not here now.",
        "image": agents.image,
        "services": [{"name": "OpenAI", "endpoint": f"{url}/v1"}, *(_wallet(hub, miner) for hub in hubs)],
        "x402Support": False,
        "active": status is not None,
        "registrations": _registrations(agents, miner),
        "supportedTrust": TRUST,
    }


def validation_record(
    agents: Agents, chain: Caip2, outbox: Address, miner: Address, sealed: SealedEpoch, receipts: int
) -> dict[str, Any]:
    """What the validators' quorum has found of a miner's receipts in one sealed epoch.

    They recomputed it from its content (``requestHash``, a SHA-256) before they signed; the hub's outbox checked their
    signatures in the transaction that ``responseURI`` names, and sealed the epoch's root, ``responseHash``.
    """
    number = _agent_id(agents, miner)
    return {
        "agentRegistry": agents.registry if number is not None else None,
        "agentId": number,
        "agentWallet": f"{chain}:{checksum(miner)}",
        "validatorAddress": f"{chain}:{checksum(outbox)}",
        "requestURI": f"urn:sha256:{sealed.content.hex()}",
        "requestHash": show(sealed.content),
        "response": PASSED,
        "responseURI": f"{chain}:tx:{show(sealed.tx_hash)}",
        "responseHash": show(sealed.root),
        "tag": TAG,
        "epoch": sealed.epoch,
        "block": sealed.sealed_in,
        "receipts": receipts,
    }


def _wallet(chain: Caip2, account: Address) -> dict[str, str]:
    return {"name": "agentWallet", "endpoint": f"{chain}:{checksum(account)}"}


def _registrations(agents: Agents, account: Address | None) -> list[dict[str, Any]]:
    number = _agent_id(agents, account) if account is not None else None
    return [] if number is None else [{"agentId": number, "agentRegistry": agents.registry}]


def _agent_id(agents: Agents, account: Address) -> int | None:
    return agents.ids.get(checksum(account)) if agents.registry is not None else None
