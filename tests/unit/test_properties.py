"""PROPERTIES.md is only worth something while every rule has tests, and the tests that it names are there."""

import re

import msgspec

from tristrata.config.paths import repository_root

ROOT = repository_root()
DESIGNED = 12
# Parts of rules that wait for the bridges: P5's limits over chains, and P11 over real bridges.
WAITING = {"P5", "P11"}
_TEST = re.compile(r"`((?:tests/[\w/]+\.py)?)((?:::\w+)*)`")
_LINK_LIKE = re.compile(r"`((?:tests/|::)[^`]*)`")
_ANY_TEST = re.compile(r"^(?:    )?(?:async )?def test_|^Test\w+ = ", re.MULTILINE)


class Property(msgspec.Struct, frozen=True):
    """A row of the tables."""

    number: str
    rule: str
    tests: str

    @property
    def named(self) -> list[tuple[str, str]]:
        """Each test that the row names: its file, and its name there; a file is named once for those after it."""
        found, file = [], ""
        for path, names in _TEST.findall(self.tests):
            if path or names:
                file = path or file
                found.append((file, names.removeprefix("::")))
        return found


def properties() -> list[Property]:
    """The rules, in order."""
    rows = [line for line in (ROOT / "PROPERTIES.md").read_text().splitlines() if line.startswith("| P")]
    return [Property(*(cell.strip() for cell in row.strip("|").split("|"))) for row in rows]


def is_there(file: str, name: str) -> bool:
    """Whether a test file exists and has what is named (``Class::test``, ``test`` or, for all of it, nothing)."""
    path = ROOT / file
    if not file or not path.is_file():
        return False
    source = path.read_text()
    if not name:
        return _ANY_TEST.search(source) is not None
    return all(
        re.search(rf"^(?:    )?(?:async )?(?:def|class) {part}\b|^{part} = ", source, re.MULTILINE)
        for part in name.split("::")
    )


def test_properties__in_order__are_numbered_without_a_gap() -> None:
    numbers = [each.number for each in properties()]

    assert numbers == [f"P{number}" for number in range(1, len(numbers) + 1)]
    assert len(numbers) >= DESIGNED


def test_properties__each__has_a_rule_and_a_test() -> None:
    assert [each.number for each in properties() if not each.rule or not each.named] == []


def test_properties__every_test_that_they_name__exists() -> None:
    assert [
        f"{each.number}: {file}::{name}"
        for each in properties()
        for file, name in each.named
        if not is_there(file, name)
    ] == []


def test_properties__whatever_looks_like_a_test__is_read_as_one() -> None:
    assert [
        f"{each.number}: {link}"
        for each in properties()
        for link in _LINK_LIKE.findall(each.tests)
        if not _TEST.fullmatch(f"`{link}`")
    ] == []


def test_properties__not_yet__only_what_waits_for_the_bridges() -> None:
    assert {each.number for each in properties() if "not yet" in each.rule + each.tests} == WAITING
