"""What no single contract's tests can see: every refusal has a name, and every name a test that makes it happen."""

import ast
import re
from pathlib import Path

from tristrata.config.paths import repository_root

ROOT = repository_root()
CONTRACTS = [path for path in sorted((ROOT / "contracts").rglob("*.vy")) if path.parent.name != "testing"]
TESTS = [path for path in sorted(Path(__file__).parent.rglob("*.py")) if path != Path(__file__)]
_CODE = re.compile(r'"""[\s\S]*?"""|#(?! dev:).*')
"""What is not code, so that prose may use the words; `# dev:` says why an assertion cannot fail."""
_ERROR = re.compile(r'method_id\("([A-Z]\w*)\([\w,\[\]]*\)"\)')
_STATEMENT = re.compile(r"^\s*(assert\b|raise\b|raw_revert\b|selfdestruct\b).*", re.MULTILINE)
_INVARIANT = re.compile(r'\s*assert [^"]+ +# dev: \S.*')


def code(path: Path) -> str:
    return _CODE.sub("", path.read_text())


def texts(path: Path) -> set[str]:
    """The words in a test file's texts; a docstring proves nothing."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        word
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        for word in re.findall(r"\w+", node.value)
    }


def test_errors__of_every_contract__are_made_to_happen_in_a_test() -> None:
    errors = {error: path.name for path in CONTRACTS for error in _ERROR.findall(code(path))}
    tested = set().union(*map(texts, TESTS))

    assert len(errors) > 100, "the pattern finds no errors any more"
    missing = [f"{error} ({errors[error]})" for error in sorted(errors.keys() - tested)]
    assert missing == [], "no test in tests/contracts expects these errors"


def test_reverts__of_every_contract__are_named_errors() -> None:
    found = {statement: [] for statement in ("assert", "raise", "raw_revert", "selfdestruct")}
    for path in CONTRACTS:
        for match in _STATEMENT.finditer(code(path)):
            found[match[1]].append(f"{path.name}: {match[0].strip()}")

    unnamed = [line for line in found["assert"] if not _INVARIANT.fullmatch(line.partition(":")[2])]
    assert unnamed == [], "an assertion reverts without a name: revert with an error, or say # dev: why it cannot fail"
    assert found["raise"] == [], "these revert with text: revert with an error and its values"
    assert found["selfdestruct"] == []
    assert len(found["raw_revert"]) > 100, "the pattern finds no reverts any more"


def test_raw_reverts__of_every_contract__carry_an_error() -> None:
    for path in CONTRACTS:
        source = code(path)
        assert source.count("raw_revert(") == len(_ERROR.findall(source)), f"{path.name}: a revert without an error"
