"""Tristrata: an open network for AI inference on layered blockchains."""

__version__ = "0.1.0"
