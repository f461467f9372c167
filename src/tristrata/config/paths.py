"""Where Tristrata keeps things on this machine. Paths only: nothing is read or created here.

Two folders belong to the user: what must not be lost (keys, books, chain states) and what can be fetched or built
again (model weights, compiled contracts). ``TRISTRATA_HOME`` and ``TRISTRATA_CACHE`` move them.
"""

import os
import re
from pathlib import Path

import platformdirs

from tristrata.protocol.errors import InvalidValue, TristrataError

_APPLICATION = "tristrata"
_NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def data_home() -> Path:
    """What must not be lost: ``$TRISTRATA_HOME``, else the user's data folder (``~/.local/share/tristrata``)."""
    return _from_environment("TRISTRATA_HOME") or Path(platformdirs.user_data_dir(_APPLICATION))


def cache_home() -> Path:
    """What can be made again: ``$TRISTRATA_CACHE``, else the user's cache folder (``~/.cache/tristrata``)."""
    return _from_environment("TRISTRATA_CACHE") or Path(platformdirs.user_cache_dir(_APPLICATION))


def network_folder(name: str) -> Path:
    """The folder of the network ``name`` under :func:`data_home`.

    Raises:
        InvalidValue: the name is not 1 to 63 of ``a-z 0-9 -`` (it becomes one folder, never a path).
    """
    if not _NETWORK_NAME.fullmatch(name):
        raise InvalidValue(
            f"network name {name!r}: must be 1 to 63 of a-z, 0-9 and '-', not starting with '-'",
            remedy="Choose a name such as 'local'.",
        )
    return data_home() / "networks" / name


def repository_root() -> Path:
    """The checkout this package runs from: it holds ``contracts/``, ``package-lock.json`` and ``node_modules/``.

    Raises:
        TristrataError: the package was installed somewhere else than from its repository.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").is_file():
        raise TristrataError(
            f"{root} is not a Tristrata repository (it has no pyproject.toml): this copy of the package was installed "
            "without the contracts and tools beside it",
            remedy="Clone the repository and run there: make setup",
        )
    return root


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable, "")
    # A relative folder would move with the working directory of each process.
    return Path(value).expanduser().absolute() if value else None
