"""Every table works in a SQLite file and in PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new database is to be: a path or a URL."""
    if request.param == "sqlite":
        return tmp_path / "test.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()
