"""The embedded network: toolchain, supervisor, chains."""
