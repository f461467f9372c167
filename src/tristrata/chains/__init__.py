"""Chains as actors see them: reads at an explicit block, transactions that are sent exactly once."""
