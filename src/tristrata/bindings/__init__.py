"""Typed clients of our own contracts, with their compiled artifacts."""
