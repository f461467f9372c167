"""The validator: recomputes every epoch from chain and content store, and signs what it finds the same."""
