"""Contracts point to the page that says in words what they do, and the page has what they point to."""

import re

import pytest

from tristrata.bindings.artifacts import CONTRACTS
from tristrata.config.paths import repository_root

WITHOUT_STATES = {"ModelRegistry", "StakeToken"}
POINTER = re.compile(r'docs/protocol\.md, ((?:"[^"]+"(?:,\s+| and\s+)?)+)')
PAGE = (repository_root() / "docs/protocol.md").read_text()


@pytest.mark.parametrize(
    "name", [name for name, path in CONTRACTS.items() if not path.startswith("testing/") and name not in WITHOUT_STATES]
)
def test_contract__of_states__names_its_section_of_the_protocol(name: str) -> None:
    source = (repository_root() / "contracts" / CONTRACTS[name]).read_text()

    sections = [section for found in POINTER.findall(source) for section in re.findall(r'"([^"]+)"', found)]

    assert sections
    assert [section for section in sections if f"\n## {section}\n" not in PAGE] == []
