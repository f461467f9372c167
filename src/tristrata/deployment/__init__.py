"""From a network file to contracts on its chains: plan, apply, check."""
