"""`tristrata down`: stop the embedded network."""

from tristrata.cli.options import DEFAULT_NETWORK, NetworkName

_STOP_SECONDS = 60.0


def down(network: NetworkName = DEFAULT_NETWORK) -> None:
    """Stop the embedded network; its chains, sessions and receipts are there again at the next start."""
    import os
    import signal
    import time

    from tristrata.cli.options import home_of
    from tristrata.devnet.running import is_running, read_running
    from tristrata.protocol.errors import TristrataError

    home = home_of(network)
    pid = read_running(home).pid
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while is_running(home):
        if time.monotonic() > deadline:
            raise TristrataError(f"process {pid} still runs after {_STOP_SECONDS:.0f} s", remedy=f"kill -9 {pid}")
        time.sleep(0.05)
    print(f"network {network} is stopped")
