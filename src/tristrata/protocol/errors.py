"""The root of every error that Tristrata raises on purpose."""


class TristrataError(Exception):
    """Something a person can act on.

    The message names the thing, the value and the rule; ``remedy`` says what to do about it, as a sentence or a
    command, and is empty only where nothing can be done.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class InvalidValue(TristrataError):
    """A value from outside breaks a rule of the protocol (a length, a range, an order)."""


class InvalidSignature(TristrataError):
    """A signature is malformed, malleable (high s) or made by another key than the one required."""
