"""The revisions, as Alembic runs them: upgrade, compare with the tables as declared, write a new one."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util.exc import CommandError
from sqlalchemy import Connection, create_engine

from tristrata.storage.database import DatabaseRefused
from tristrata.storage.tables import METADATA

_HERE = Path(__file__).parent


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate to a revision. Raises `DatabaseRefused` where the database's own is not known here."""
    try:
        command.upgrade(_config(connection), revision)
    except CommandError as error:
        raise DatabaseRefused(
            f"the database is of a revision that this program does not know: {error}",
            remedy="it was made by a newer program: use that, or move the database away",
        ) from error


def differences(connection: Connection) -> list[Any]:
    """What a migrated database lacks of the tables as they are declared, as Alembic's operations."""
    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


def write_revision(message: str) -> None:
    """Write the next revision into ``versions``, from what changed since the last; look at it before you commit it."""
    with TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/previous.sqlite")
        with engine.begin() as connection:
            upgrade(connection)
        with engine.begin() as connection:
            number = len(list((_HERE / "versions").glob("[0-9]*.py"))) + 1
            command.revision(_config(connection), message, autogenerate=True, rev_id=f"{number:04}")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["connection"] = connection
    return config


if __name__ == "__main__":
    write_revision(" ".join(sys.argv[1:]) or "change tables")
