"""The relayer: carries messages from one chain of the network to another."""
