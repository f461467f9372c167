"""These tests need Debian packages; without them every one fails with the names of what is missing."""

import shutil

import pytest

PACKAGES = {"tmux": "tmux", "curl": "curl"}
"""Program to Debian package."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked ``system``."""
    for item in items:
        if "tests/system/" in item.nodeid:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session", autouse=True)
def _packages() -> None:
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        pytest.fail(f"Debian packages are missing: {' '.join(missing)}. apt-get install {' '.join(missing)}")
