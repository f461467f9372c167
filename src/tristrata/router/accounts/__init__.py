"""Accounts over HTTP: registrations, sign-in, API keys, sessions, vouchers of own keys, usage.

Whatever touches the chain is signed by the account that it concerns; the contracts check those signatures again. The
router carries it and pays the gas.
"""

from tristrata.router.accounts.desk import AccountDesk, RouterRules
from tristrata.router.accounts.routes import account_routes

__all__ = ["AccountDesk", "RouterRules", "account_routes"]
