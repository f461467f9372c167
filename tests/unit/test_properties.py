"""PROPERTIES.md is only worth something while the tests that it names are there."""

import re

from tristrata.config.paths import repository_root

ROOT = repository_root()
_REFERENCE = re.compile(r"`([\w/.]+\.py)?((?:::\w+)*)`")


def test_properties__every_test_that_they_name__exists() -> None:
    missing = []
    for line in (ROOT / "PROPERTIES.md").read_text().splitlines():
        if not line.startswith("| P"):
            continue
        source = ""
        for file, names in _REFERENCE.findall(line):
            if file:
                if not (ROOT / file).exists():
                    missing.append(f"{line[:6]} {file}")
                    continue
                source = (ROOT / file).read_text()
            for name in names.split("::")[1:]:
                if not re.search(rf"(def|class) {name}\b|^{name} = ", source, re.MULTILINE):
                    missing.append(f"{line[:6]} {name}")
    assert missing == []


def test_properties__of_the_design__are_all_listed() -> None:
    listed = re.findall(r"^\| (P\d+) \|", (ROOT / "PROPERTIES.md").read_text(), re.MULTILINE)
    assert listed == [f"P{number}" for number in range(1, len(listed) + 1)]
    assert len(listed) >= 12
