"""Hashes of files: true for every state of a file, and read once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from logitproof.errors import EnvironmentFailed
from logitproof.files import hashes
from logitproof.files.hashes import file_sha256


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, which keeps small files that were written just now, too."""
    monkeypatch.setenv("LOGITPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "KEPT_FROM", 1)
    monkeypatch.setattr(hashes, "SETTLED_NS", -(1 << 60))
    hashes._sha256.cache_clear()
    return tmp_path / "cache/sha256"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the content was read again")

    monkeypatch.setattr(hashlib, "file_digest", refuse)


def test_a_hash_that_is_kept_is_not_computed_again_by_another_process(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "weights").write_bytes(b"one")
    assert file_sha256(file) == sha256(file)
    hashes._sha256.cache_clear()  # what another process begins with
    expected = sha256(file)
    never_read(monkeypatch)
    assert file_sha256(file) == expected


def test_the_same_size_and_mtime_do_not_hide_other_bytes(tmp_path: Path, kept: Path) -> None:
    (file := tmp_path / "weights").write_bytes(b"one")
    before, first = file.stat(), file_sha256(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_size == before.st_size
    assert file_sha256(file) == sha256(file) != first


def test_another_file_in_its_place_is_another_file(tmp_path: Path, kept: Path) -> None:
    (file := tmp_path / "weights").write_bytes(b"one")
    first = file_sha256(file)
    (other := tmp_path / "other").write_bytes(b"two")
    os.replace(other, file)
    assert file_sha256(file) == sha256(file) != first


@pytest.mark.parametrize("text", ["", "0" * 63, "g" * 64, "0" * 64 + "\n" + "1" * 64])
def test_what_is_no_hash_is_not_believed(tmp_path: Path, kept: Path, text: str) -> None:
    (file := tmp_path / "weights").write_bytes(b"one")
    file_sha256(file)
    (place,) = [path for path in kept.rglob("*") if path.is_file()]
    place.write_text(text)
    hashes._sha256.cache_clear()
    assert file_sha256(file) == sha256(file)


def test_a_hash_that_others_may_write_is_not_believed(tmp_path: Path, kept: Path) -> None:
    (file := tmp_path / "weights").write_bytes(b"one")
    file_sha256(file)
    (place,) = [path for path in kept.rglob("*") if path.is_file()]
    place.write_text("0" * 64)
    place.chmod(0o666)
    hashes._sha256.cache_clear()
    assert file_sha256(file) == sha256(file)


def test_a_file_that_changed_just_now_is_hashed_and_not_kept(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED_NS", 2_000_000_000)
    (file := tmp_path / "weights").write_bytes(b"one")
    assert file_sha256(file) == sha256(file)
    assert not list(kept.rglob("*"))


def test_a_file_that_is_written_while_it_is_hashed_has_no_hash(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "weights").write_bytes(b"one")
    digest = hashlib.file_digest

    def written(opened: object, name: str) -> object:
        found = digest(opened, name)  # type: ignore[arg-type]
        file.write_bytes(b"longer")
        return found

    monkeypatch.setattr(hashlib, "file_digest", written)
    with pytest.raises(EnvironmentFailed, match="changed while it was hashed"):
        file_sha256(file)


def test_no_folder_to_keep_hashes_in_is_no_error(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    (file := tmp_path / "weights").write_bytes(b"one")
    assert file_sha256(file) == sha256(file)
    monkeypatch.setenv("LOGITPROOF_CACHE", "")
    hashes._sha256.cache_clear()
    assert file_sha256(file) == sha256(file)
