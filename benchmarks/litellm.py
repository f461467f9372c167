"""LiteLLM in a virtual environment of its own: it pins other versions of what we use ourselves, of `openai` above all.

The benchmarks run its proxy, a test its SDK. The environment is made once, in the user's cache, of pinned versions with
hashes; the downloads come from uv's cache where that has them.
"""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "DO_NOT_TRACK": "1"}
"""What LiteLLM is started with, so that it asks nobody on the internet."""

_REQUIREMENTS = Path(__file__).with_name("litellm.txt")


def litellm_python(cache: Path, uv: str) -> Path:
    """The interpreter that has LiteLLM, under ``cache``; made with the ``uv`` at that path where it is not there yet.

    Raises `subprocess.CalledProcessError` when the package index cannot be reached.
    """
    made_of = _REQUIREMENTS.read_bytes() + sys.version.encode()
    folder = cache / "litellm" / hashlib.sha256(made_of).hexdigest()[:16]
    python, ready = folder / "bin" / "python", folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:  # tests and benchmarks may want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
            install = [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", _REQUIREMENTS]
            subprocess.run(install, check=True)
            ready.touch()
    return python
