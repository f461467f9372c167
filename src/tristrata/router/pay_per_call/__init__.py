"""Calls that are paid one by one, without an account: x402 v2 (https://github.com/x402-foundation/x402, specs)."""

from tristrata.router.pay_per_call.desk import PayPerCall
from tristrata.router.pay_per_call.house import HouseSessions

__all__ = ["HouseSessions", "PayPerCall"]
