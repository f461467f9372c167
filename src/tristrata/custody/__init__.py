"""Keys: in keystores on disk, or in memory, and nowhere else."""
