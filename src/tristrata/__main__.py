"""``python -m tristrata``: the same as the console script."""

from tristrata.cli.main import main

main()
