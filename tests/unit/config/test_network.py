from pathlib import Path

import pytest

from tristrata.config.network import NetworkFileInvalid, Stack, read_network, shipped_network, write_network
from tristrata.protocol.ids import chain_ref, eip155, parse_address

LOCAL = shipped_network("local").read_text()


def write(folder: Path, text: str) -> Path:
    path = folder / "network.toml"
    path.write_text(text)
    return path


def test_read_network__local__is_the_tree_of_the_readme() -> None:
    network = read_network(shipped_network("local"))

    assert {name: network.layer(name) for name in network.chains} == {
        "ethereum": 1,
        "base": 2,
        "arbitrum": 2,
        "acme": 3,
    }
    assert network.chains["base"].stack is Stack.OP
    assert network.roles.hubs == ("arbitrum", "acme")
    assert network.chain_named("eip155:31339") == "arbitrum"


def test_write_network__with_addresses__reads_back_the_same(tmp_path: Path) -> None:
    network = read_network(shipped_network("local")).with_addresses(
        rpc={"base": "http://127.0.0.1:1"},
        fabric="nats://127.0.0.1:2",
        router="http://127.0.0.1:3",
        operations="127.0.0.1:4",
    )
    write_network(network, tmp_path / "network.json")

    assert read_network(tmp_path / "network.json") == network


def test_ref__custom_chain__depends_on_parent_and_rollup(tmp_path: Path) -> None:
    rollup = "0x" + "11" * 20
    text = LOCAL.replace("chain_id = 31_340", f'chain_id = 31_340\nrollup = "{rollup}"')
    network = read_network(write(tmp_path, text))

    assert network.ref("arbitrum") == chain_ref(eip155(31_339))
    assert network.ref("acme") == chain_ref(eip155(31_340), network.ref("arbitrum"), parse_address(rollup))


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('parent = "arbitrum"', 'parent = "nowhere"', "parent 'nowhere'"),
        ('parent = "arbitrum"', 'parent = "acme"', "circle"),
        ("chain_id = 31_340", "chain_id = 31_339", "same chain_id"),
        ("chain_id = 31_340", "chain_id = -1", "chains.acme.chain_id"),
        ('orchestration = ["arbitrum"]', 'orchestration = ["solana"]', "orchestration names"),
        ('stack = "op"', 'stack = "zk"', "chains.base.stack"),
        ('backend = "embedded"', 'backend = "magic"', "backend"),
        ('backend = "embedded"', 'backend = "openai"', "url must be given"),
        ('model = "smollm2-135m-instruct"', 'model = "gpt"', "offers model 'gpt'"),
        ("router_bps = 500", "router_bps = 5_000", "parameters.router_bps"),
        ("router_bps = 500", "router_bps = 500\ntypo = 1", "parameters.typo"),
        ("change_delay_seconds = 5 ", "change_delay_seconds = 4 ", "change delay is 4 s; .* grace, 5 s"),
        ("miner_exit_seconds = 5", "miner_exit_seconds = 6", "change delay is 5 s; .* miner exit, 6 s"),
        ("router_exit_seconds = 5", "router_exit_seconds = 6", "change delay is 5 s; .* router exit, 6 s"),
        ("task_lead = 2", "task_lead = 1", "task_lead is 1; it must be 2 at least"),
        ("task_bond_bps = 20_000", "task_bond_bps = 999", "task_penalty_bps is 1000; .* task_bond_bps, 999"),
        ("[roles]", "[roles", "not TOML"),
    ],
)
def test_read_network__breaks_a_rule__names_the_field(tmp_path: Path, old: str, new: str, rule: str) -> None:
    assert old in LOCAL
    path = write(tmp_path, LOCAL.replace(old, new, 1))

    with pytest.raises(NetworkFileInvalid, match=rule):
        read_network(path)


def test_read_network__no_such_file__says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NetworkFileInvalid) as caught:
        read_network(tmp_path / "network.json")
    assert "tristrata up" in caught.value.remedy
