"""The gas of what people pay for, against the snapshot in gas.json: a rise must be wanted, so it is seen in a diff.

A figure is execution before refunds, plus calldata (4 and 16 gas a byte), plus the 21,000 of every transaction. Keys,
addresses and times are fixed, so a figure changes only with the contracts. But titanoboa keeps slots warm and dirty
from one call to the next, where a chain begins every transaction cold: only changes mean something here. What a task
costs on a chain is measured by benchmarks/gas.py.

`UPDATE_GAS=1 pytest tests/contracts/test_gas.py` writes the snapshot anew.
"""

import json
import os
from pathlib import Path
from random import Random

import boa
import pytest

from tests.contracts.gas_scenarios import SCENARIOS
from tristrata.protocol.hashing import keccak

SNAPSHOT = Path(__file__).with_name("gas.json")
RISE, FALL = 0.005, 0.02
NOW = 1_800_000_000


def measure(name: str) -> int:
    """The gas of one scenario, on a chain of its own."""
    environment = boa.Env()
    environment._random = Random("gas")  # addresses, and with them the zero bytes in calldata
    environment.eoa = environment.generate_address()
    environment.evm.patch.timestamp, environment.evm.patch.block_number = NOW, 1_000
    environment.evm.patch.prevrandao = keccak(b"randomness")
    with boa.swap_env(environment):
        called = SCENARIOS[name]()
    function = name.split(".")[1].split(maxsplit=1)[0]
    computation = called._computation
    data = bytes(computation.msg.data)
    selectors = [number.to_bytes(4, "big") for number in getattr(called, function).func_t.method_ids.values()]
    assert data[:4] in selectors, f"{name}: its last call is of another function"
    zeros = data.count(0)
    return int(21_000 + 4 * zeros + 16 * (len(data) - zeros) + computation.get_gas_used())


def table(old: dict[str, int], new: dict[str, int]) -> str:
    lines = [f"{'':34}{'old':>12}{'new':>12}{'change':>10}"]
    for name in dict.fromkeys([*old, *new]):
        before, now = old.get(name), new.get(name)
        change = f"{now / before - 1:+.2%}" if before and now else ""
        lines.append(f"{name:34}{_shown(before):>12}{_shown(now):>12}{change:>10}")
    return "\n".join(lines)


def _shown(gas: int | None) -> str:
    return "–" if gas is None else f"{gas:,}"


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    return {name: measure(name) for name in SCENARIOS}


def test_gas__of_what_people_pay_for__is_what_the_snapshot_says(measured: dict[str, int]) -> None:
    old: dict[str, int] = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    compared = table(old, measured)
    print(compared)
    if os.environ.get("UPDATE_GAS"):
        SNAPSHOT.write_text(json.dumps(measured, indent=2) + "\n")
        return

    assert list(old) == list(measured), f"other functions are measured: run with UPDATE_GAS=1\n{compared}"
    risen = [name for name in old if measured[name] > old[name] * (1 + RISE)]
    assert risen == [], f"these cost more; if that is wanted, run with UPDATE_GAS=1 and say why\n{compared}"
    fallen = [name for name in old if measured[name] < old[name] * (1 - FALL)]
    assert fallen == [], f"these cost less: keep it so, run with UPDATE_GAS=1\n{compared}"


def test_gas__measured_again__is_the_same(measured: dict[str, int]) -> None:
    for name in ("Sessions.open_with_authorization", "Settlement.settle (5 charges)", "CheckpointLedger.attest"):
        assert measure(name) == measured[name]
