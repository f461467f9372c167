"""What agents look for: who this router and its miners are (ERC-8004), what was audited of them, and A2A."""

from tristrata.router.agents.a2a import Messages
from tristrata.router.agents.api import AgentsApi

__all__ = ["AgentsApi", "Messages"]
