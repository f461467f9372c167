"""Every number in the docs: measured here, by `make bench`, and written to ``docs/benchmarks.md``."""
