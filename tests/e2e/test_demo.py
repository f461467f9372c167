"""The demo without a terminal, on a network that runs already: what it writes down is true."""

import json
from pathlib import Path

from tests.support.network import CliNetwork
from tristrata.protocol import codec


def test_demo__own_prompt__writes_down_every_step_and_receipt(network: CliNetwork, tmp_path: Path) -> None:
    before = network.status()["processes"]
    done = network.run("demo", "--json", str(tmp_path / "demo.json"), "--", "What is the capital of Japan?")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "signed" in done.stdout and "vouchered" in done.stdout and "charged" in done.stdout
    record = json.loads((tmp_path / "demo.json").read_text())
    public, private = record["tasks"]
    assert (public["hub"], private["hub"]) == ("arbitrum", "acme")
    assert public["answer"] == "The capital of Japan is Tokyo."
    for task in record["tasks"]:
        receipt = codec.receipt_from_json(task["receipt"]["receipt"])
        assert receipt.output_tokens == task["output_tokens"]
        assert [milestone["name"] for milestone in task["milestones"]][:3] == ["signed", "vouchered", "charged"]
        assert task["milestones"][2]["gas"] > 50_000
    steps = {step["name"]: step for step in record["steps"]}
    assert steps["register by signature"]["chain"] == "base"
    assert all(steps[name]["gas"] > 0 for name in ("register by signature", "open a session", "charge answer 1"))
    assert network.status()["processes"] == before, "a network that ran before is used and left running"
