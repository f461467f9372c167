"""NATS subjects: who may talk to whom about what."""

from tristrata.protocol.ids import Address

HELLO = "router.hello"
"""A router asks every miner for its status."""

ALL_STATUS = "miner.*.status"


def task(miner: Address) -> str:
    """Where a miner takes tasks."""
    return f"miner.{miner.hex()}.task"


def cancel(miner: Address) -> str:
    """Where a miner is told to stop."""
    return f"miner.{miner.hex()}.cancel"


def voucher(miner: Address) -> str:
    """Where a miner gets the vouchers that pay it."""
    return f"miner.{miner.hex()}.voucher"


def status(miner: Address) -> str:
    """Where a miner says how it is."""
    return f"miner.{miner.hex()}.status"


def inbox(miner: Address) -> str:
    """Everything that is sent to one miner."""
    return f"miner.{miner.hex()}.>"


def replies(router_id: str) -> str:
    """All replies to one router: one subscription, whatever the number of requests."""
    return f"router.{router_id}.reply.*.*"


def reply(router_id: str, miner: Address, request_id: bytes) -> str:
    """Where the frames of one miner's answer go."""
    return f"router.{router_id}.reply.{miner.hex()}.{request_id.hex()}"


def own_replies(miner: Address) -> str:
    """Every place where one miner may answer."""
    return f"router.*.reply.{miner.hex()}.*"
