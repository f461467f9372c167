"""The windows of time that secure each other, and the inequalities between them. Deployment refuses what breaks one."""

import msgspec

from tristrata.protocol.errors import InvalidValue


class Windows(msgspec.Struct, frozen=True):
    """A network's windows, all in seconds.

    ``grace`` lies between asking to close a session and closing it; ``epoch`` between epochs; ``payout_delay`` between
    sealing an epoch and paying from it; ``set_validity`` is how long a validator set signs; ``unbonding`` how long a
    leaving validator's stake stays; ``finality`` the longest that a hub's block takes to be final; ``outage`` the
    longest stop of a hub's sequencer that owners and payees are protected from. ``change_delay`` lies between
    announcing a change and making it; ``miner_exit`` and ``router_exit`` between asking for a bond back and getting it.
    """

    grace: float
    epoch: float
    payout_delay: float
    set_validity: float
    unbonding: float
    finality: float
    outage: float
    change_delay: float
    miner_exit: float
    router_exit: float


def check_windows(windows: Windows) -> None:
    """Raise `InvalidValue`, which names both sides, for the first inequality that does not hold."""
    secured = windows.set_validity + windows.finality + windows.payout_delay
    if windows.unbonding < secured:
        raise InvalidValue(
            f"unbonding is {windows.unbonding:.10g} s; it must be at least set validity + finality + payout delay, "
            f"{secured:.10g} s, or a validator is gone before what it signed can be held against it"
        )
    outlasted = windows.finality + windows.epoch + windows.outage
    if windows.grace < outlasted:
        raise InvalidValue(
            f"grace is {windows.grace:.10g} s; it must be at least finality + epoch + outage, {outlasted:.10g} s, or a "
            "session closes before its last voucher is charged"
        )
    for name, exit_delay in (
        ("grace", windows.grace),
        ("miner exit", windows.miner_exit),
        ("router exit", windows.router_exit),
    ):
        if windows.change_delay < exit_delay:
            raise InvalidValue(
                f"change delay is {windows.change_delay:.10g} s; it must be at least {name}, {exit_delay:.10g} s, "
                "or a change is made before whoever dislikes it can leave"
            )
