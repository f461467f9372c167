"""What `deploy/` asks Prometheus for is what a running router tells."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.network import CliNetwork

DEPLOY = Path(__file__).parents[2] / "deploy"
_NAME = re.compile(r"\btristrata_[a-z_]+")


@pytest.fixture(scope="module")
def told(network: CliNetwork) -> set[str]:
    """The series that the network's router tells, after a call that is refused."""
    settings = network.settings()
    httpx.post(f"{settings.router}/v1/chat/completions", headers={"authorization": "Bearer nobody"})
    text = httpx.get(f"http://{settings.network.serving.operations}/metrics").text
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/router.json").read_text())
    return found


def test_alerts__every_series__is_told_by_a_running_router(told: set[str]) -> None:
    asked = {name for rule in rules() for name in _NAME.findall(rule["expr"])}
    assert len(asked) >= 8 and asked - told == set()


def test_alerts__each__says_what_it_means_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "meaning", "action"} and rule["labels"]["severity"]
        assert rule["for"] and rule["expr"]


def test_board__every_series__is_told_by_a_running_router(told: set[str]) -> None:
    asked = {
        name for panel in board()["panels"] for target in panel["targets"] for name in _NAME.findall(target["expr"])
    }
    assert len(asked) >= 12 and asked - told == set()


def test_board__panels__have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(taken) == len(panels)
    assert all(panel["datasource"]["uid"] == "${source}" for panel in panels)
