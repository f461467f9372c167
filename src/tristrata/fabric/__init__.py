"""The wires between routers and miners: NATS subjects, frames, admission. Knows no chain."""
