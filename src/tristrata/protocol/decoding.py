"""What decoding bytes from outside may raise; apart from the errors, which must import nothing."""

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: wrong JSON or MessagePack, text that is not UTF-8, nesting too deep."""
