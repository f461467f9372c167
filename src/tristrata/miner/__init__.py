"""The miner: takes tasks, runs the model, streams, and signs what it did."""
