"""`tristrata verify`: its four exit codes and what it says, offline and against a chain."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from tests.support.anvil import anvil
from tests.unit.protocol.test_proof import L1, LEDGER, PROOFS, top_root, unproven
from tristrata.chains.evm import EvmChain
from tristrata.cli.verify import verify
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import checksum, evm_chain_id, show
from tristrata.protocol.proof import ReceiptProof, proof_to_json

PROOF = PROOFS["l3"]
ROOT = show(top_root(PROOF))
Write = Callable[[Any], str]


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on the developer's machine is not asked."""
    monkeypatch.setenv("TRISTRATA_HOME", str(tmp_path / "home"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: Any) -> str:
        file = tmp_path / "receipt.json"
        document = proof_to_json(content) if isinstance(content, ReceiptProof) else content
        file.write_bytes(document if isinstance(document, bytes) else json.dumps(document, indent=2).encode())
        return str(file)

    return to_file


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(verify)
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(("name", "hops"), [("hub", 1), ("l3", 2)])
def test_verify__the_ledgers_root__is_proven(write: Write, name: str, hops: int) -> None:
    result = run(write(PROOFS[name]), "--checkpoint", show(top_root(PROOFS[name])))

    assert result.exit_code == 0, result.output
    assert "PROVEN on Ethereum, attested" in result.stdout
    assert result.stdout.count("[attested]") == hops


def test_verify__as_json__has_the_path(write: Write) -> None:
    result = run(write(PROOF), "--checkpoint", ROOT, "--ledger", checksum(LEDGER), "--json")
    found = json.loads(result.stdout)

    assert result.exit_code == 0
    assert (found["status"], found["lane"], len(found["hops"])) == ("proven", "attested", 2)
    assert found["checkpoint"]["root"] == found["hops"][1]["root"] == ROOT
    assert found["checkpoint"]["ledger_is_trusted"]


def test_verify__ledger_that_nobody_vouches_for__is_said(write: Write) -> None:
    assert "only the file says" in run(write(PROOF), "--checkpoint", ROOT).stdout
    assert "only the file says" not in run(write(PROOF), "--checkpoint", ROOT, "--ledger", checksum(LEDGER)).stdout


def test_verify__another_ledger_than_the_trusted__is_broken(write: Write) -> None:
    result = run(write(PROOF), "--checkpoint", ROOT, "--ledger", "0x" + "33" * 20)

    assert result.exit_code == 1
    assert "BROKEN at: ethereum" in result.stdout


@pytest.mark.parametrize(
    ("path", "value", "link"),
    [
        (("receipt", "price"), "31", "signature"),
        (("path", "position"), 3, "receipts tree"),
        (("path", "sealed", "payouts_root"), "0x" + "64" * 32, "epoch"),
        (("path", "parent", "index"), 2, "parent"),
        (("path", "parent", "sealed", "epoch"), 13, "parent epoch"),
        (("path", "checkpoint", "ledger"), checksum(LEDGER)[:-1] + "f", "receipt"),
        (("path", "checkpoint", "chain"), "eip155:1", "ethereum"),
        (("format",), "tristrata.receipt/9", "receipt"),
    ],
)
def test_verify__changed__says_which_link_is_broken(
    write: Write, path: tuple[str, ...], value: object, link: str
) -> None:
    document = proof_to_json(PROOF)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file = write(document)

    plain, found = run(file, "--checkpoint", ROOT), run(file, "--checkpoint", ROOT, "--json")

    assert (plain.exit_code, found.exit_code) == (1, 1)
    assert f"BROKEN at: {link}\n" in plain.stdout
    answer = json.loads(found.stdout)
    assert (answer["status"], answer["link"]) == ("broken", link)
    assert answer["expected"] in plain.stdout
    assert answer["found"] in plain.stdout


def test_verify__another_root_on_the_ledger__is_broken_at_ethereum(write: Write) -> None:
    result = run(write(PROOF), "--checkpoint", "0x" + "99" * 32)

    assert result.exit_code == 1
    assert "BROKEN at: ethereum\n  expected  0x" + "99" * 32 in result.stdout


def test_verify__no_path_or_nothing_on_the_ledger__is_awaited(write: Write) -> None:
    pathless = run(write(unproven(PROOF)))
    nothing = run(write(PROOF), "--checkpoint", "00" * 32, "--json")

    assert (pathless.exit_code, nothing.exit_code) == (2, 2)
    assert "Awaiting the charge of its voucher" in pathless.stdout
    assert json.loads(nothing.stdout)["awaited"].startswith("the checkpoint of epoch 12")


def test_verify__cannot_be_checked__is_neither_proven_nor_broken(write: Write) -> None:
    file = write(PROOF)

    for arguments, why in (
        (["/nonexistent"], "cannot be read"),
        ([file], "give --rpc URL"),
        ([file, "--rpc", "http://127.0.0.1:9"], "does not answer"),
        ([file, "--rpc", "file:///etc/passwd"], "must read http"),
        ([file, "--rpc", "http://127.0.0.1:x"], "does not answer"),
        ([file, "--rpc", "http://127.0.0.1:9", "--checkpoint", ROOT], "both given"),
        ([file, "--checkpoint", "0x12"], "64 hexadecimal digits"),
        ([file, "--checkpoint", ROOT, "--ledger", "me"], "40 hexadecimal digits"),
    ):
        result = run(*arguments)
        assert result.exit_code == 3, (arguments, result.output)
        assert why in result.stderr


def test_verify__broken_file__asks_no_chain(write: Write) -> None:
    document = proof_to_json(PROOF)
    document["path"]["position"] = 4

    assert run(write(document), "--rpc", "http://127.0.0.1:9").exit_code == 1


def test_verify__as_a_process__exits_with_the_code(write: Write) -> None:
    code = "import typer; from tristrata.cli.verify import verify; typer.run(verify)"
    for root, expected in ((ROOT, 0), ("11" * 32, 1), ("00" * 32, 2), ("x", 3)):
        command = [sys.executable, "-c", code, write(PROOF), "--checkpoint", root]
        assert subprocess.run(command, check=False, capture_output=True).returncode == expected


async def test_verify__against_a_chain__reads_the_finalized_checkpoint(write: Write) -> None:
    file = write(PROOF)
    async with anvil("l1", evm_chain_id(L1), "--slots-in-an-epoch", "1") as chain:
        nobody = run(file, "--rpc", chain.url)
        await put_ledger(chain, top_root(PROOF), lane=2)
        proven = run(file, "--rpc", chain.url, "--json")
        await put_ledger(chain, bytes(32), lane=0)
        awaited = run(file, "--rpc", chain.url)
        other = run(write(PROOFS["hub"]), "--rpc", chain.url)

    assert nobody.exit_code == 3
    assert "there is no CheckpointLedger" in nobody.stderr
    assert proven.exit_code == 0, proven.output
    assert [hop["lane"] for hop in json.loads(proven.stdout)["hops"]] == ["attested", "final"]
    assert json.loads(proven.stdout)["lane"] == "attested"
    assert awaited.exit_code == 2
    assert other.exit_code == 3  # the stand-in takes no other question
    assert "refused" in other.stderr


async def test_verify__against_another_chain__is_not_checked(write: Write) -> None:
    async with anvil("other", 1) as chain:
        result = run(write(PROOF), "--rpc", chain.url)

    assert result.exit_code == 3
    assert "serves chain 1; the receipt needs eip155:31337" in result.stderr


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"no json"),
        (200, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}'),
        (200, b"[]"),
        (200, b'[{"id":0,"result":"0x7a69"},{"id":1,"result":null}]'),
        (200, b'[{"id":0,"result":"zz"},{"id":1,"result":"0x"}]'),
        (200, b'[{"id":0,"result":"0x7a69"},{"id":1,"error":{}}]'),
        (200, b'[{"id":0,"result":"0x7a69"},{"id":1,"result":"0x' + b"07" * 96 + b'"}]'),
        (500, b""),
    ],
)
def test_verify__server_that_talks_nonsense__is_not_checked(write: Write, status: int, body: bytes) -> None:
    with serving(status, body) as url:
        result = run(write(PROOF), "--rpc", url)

    assert result.exit_code == 3, result.output
    assert result.stderr.startswith("error: ")


async def put_ledger(chain: EvmChain, root: bytes, lane: int) -> None:
    """Code at the ledger's address that answers ``checkpoint`` for the receipt's chain and epoch, and only that."""
    assert PROOF.path is not None
    named = PROOF.path.checkpoint
    question = keccak(b"checkpoint(bytes32,uint64)")[:4] + named.chain_ref + word(named.epoch)
    code = (
        bytes.fromhex("365f5f37365f20")  # keccak256(calldata)
        + bytes([0x7F, *keccak(question), 0x14])  # == keccak256(question)
        + bytes([0x60, 47, 0x57, 0x5F, 0x5F, 0xFD, 0x5B])  # or revert
        + bytes([0x7F, *root, 0x5F, 0x52, 0x60, lane, 0x60, 0x20, 0x52, 0x60, 1, 0x60, 0x40, 0x52])
        + bytes([0x60, 0x60, 0x5F, 0xF3])
    )
    assert code[47] == 0x5B
    await chain.rpc("anvil_setCode", show(LEDGER), show(code))
    await chain.rpc("anvil_mine", "0x8")


@contextmanager
def serving(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/rpc?key=1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
