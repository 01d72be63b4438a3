"""A GGUF model in several files is one model: all its tensors, all its files in the hash, and no part of another one."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from logitproof.errors import ModelError
from logitproof.files.gguf import GgufFile
from logitproof.files.gguf_parts import PartName, files_of_model, part_name
from logitproof.gguf.folder import derive, folder_of
from logitproof.weights.hub_id import HubId, choose
from logitproof.weights.model import open_model, weights_sha256, weights_state
from parted import parted, text

WHOLE = Path(__file__).parents[2] / "zoo/gguf/qwen3-Q8_0.gguf"


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    if not WHOLE.is_file():
        pytest.skip("NOT-MEASURED: zoo/gguf/qwen3-Q8_0.gguf is not made (`make zoo`)")
    return parted(WHOLE, tmp_path, 3)


def test_all_tensors_are_those_of_the_first_part(parts: list[Path]) -> None:
    whole, model = GgufFile(WHOLE), GgufFile(parts[0])
    assert [tensor.name for tensor in model.tensors] == [tensor.name for tensor in whole.tensors]
    assert all(np.array_equal(a.data, b.data) for a, b in zip(model.tensors, whole.tensors, strict=True))
    assert len(GgufFile(parts[0], alone=True).tensors) < len(whole.tensors)


def test_every_part_is_in_the_hash_and_in_the_state(parts: list[Path]) -> None:
    model = open_model(parts[0])
    assert sorted(model.files) == [part.name for part in parts] and model.sha256 == weights_sha256(parts[0])
    state = weights_state(parts[0])
    content = bytearray(parts[2].read_bytes())
    content[-40] ^= 1
    parts[2].write_bytes(content)
    assert open_model(parts[0]).sha256 != model.sha256 and weights_state(parts[0]) != state


def test_what_is_derived_is_that_of_the_whole(parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITPROOF_DERIVED", str(tmp_path / "derived"))
    assert derive(parts[0]) == derive(WHOLE)
    assert (folder_of(parts[0]) / "config.json").read_text() == (folder_of(WHOLE) / "config.json").read_text()


def test_parts_behind_links_are_found_by_the_links(parts: list[Path], tmp_path: Path) -> None:
    """The hub's cache has each file under its hash, and links to them by name."""
    snapshot = tmp_path / "snapshots"
    snapshot.mkdir()
    for number, part in enumerate(parts):
        blob = part.rename(part.with_name(f"{number}" * 64))
        (snapshot / part.name).symlink_to(os.path.relpath(blob, snapshot))
    assert len(GgufFile(snapshot / parts[0].name).tensors) == len(GgufFile(WHOLE).tensors)
    assert open_model(snapshot / parts[0].name).format == "gguf"
    assert folder_of(snapshot / parts[0].name).is_dir()


def rewritten(path: Path, key: str, layout: str, value: int) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(text(key)) + len(text(key)) + 4
    struct.pack_into(layout, content, at, value)
    path.write_bytes(content)


def missing(parts: list[Path]) -> Path:
    parts[1].unlink()
    return parts[0]


def renamed(parts: list[Path]) -> Path:
    return parts[0].rename(parts[0].with_name("model.gguf"))


def exchanged(parts: list[Path]) -> Path:
    held = parts[1].read_bytes()
    parts[1].write_bytes(parts[2].read_bytes())
    parts[2].write_bytes(held)
    return parts[0]


def repeated(parts: list[Path]) -> Path:
    shutil.copyfile(parts[1], parts[2])
    rewritten(parts[2], "split.no", "<H", 2)
    return parts[0]


def of_another_count(parts: list[Path]) -> Path:
    rewritten(parts[1], "split.count", "<H", 4)
    return parts[0]


def short(parts: list[Path]) -> Path:
    rewritten(parts[0], "split.tensors.count", "<i", 1000)
    return parts[0]


def cut_off(parts: list[Path]) -> Path:
    parts[2].write_bytes(parts[2].read_bytes()[:-4096])
    return parts[0]


def a_folder(parts: list[Path]) -> Path:
    parts[1].unlink()
    parts[1].mkdir()
    return parts[0]


def no_model(parts: list[Path]) -> Path:
    parts[1].write_bytes(b"GGUF" + b"\xff" * 64)
    return parts[0]


WRONG: list[tuple[Callable[[list[Path]], Path], str]] = [
    (missing, r"part 1 of 3 of a model, and m-00002-of-00003\.gguf is not beside it"),
    (renamed, "part 1 of 3 of a model, which are found by their names, and is not called so"),
    (lambda parts: parts[1], "is part 2 of 3 of a model, which begins with its first"),
    (exchanged, r"m-00002-of-00003\.gguf says split\.no 2 of 3, and should be 1 of 3"),
    (repeated, "another part has, too"),
    (of_another_count, "of 4, and should be 1 of 3"),
    (short, "is of 1000 tensors by split.tensors.count"),
    (cut_off, "truncated or damaged"),
    (a_folder, "is not beside it"),
    (no_model, "truncated or damaged"),
]


@pytest.mark.parametrize(("spoil", "says"), WRONG, ids=[getattr(spoil, "__name__", "") for spoil, _ in WRONG])
def test_parts_that_do_not_belong_together_are_refused(
    parts: list[Path], spoil: Callable[[list[Path]], Path], says: str
) -> None:
    path = spoil(parts)
    with pytest.raises(ModelError, match=says) as raised:
        open_model(path)
    assert raised.value.remedy and ".gguf" in str(raised.value)


def test_a_name_says_which_part_it_is() -> None:
    assert part_name("Q4/m-Q4_K_M-00001-of-00002.gguf") == PartName("Q4/m-Q4_K_M", 1, 2)
    assert [part_name(name) for name in ("m.gguf", "m-1-of-2.gguf", "m-00001-of-00002.gguf.part")] == [None] * 3


def test_another_name_stands_for_itself(tmp_path: Path) -> None:
    names = ["m.gguf", "m-00002-of-00002.gguf", "m-00001-of-00001.gguf", "m-00001-of-00000.gguf"]
    for name in names:
        assert files_of_model(tmp_path / name) == [tmp_path / name]


def test_of_a_model_of_the_hub_in_parts_the_first_is_meant() -> None:
    names = [f"m-{kind}-0000{number}-of-00002.gguf" for kind in ("Q4_K_M", "Q8_0") for number in (1, 2)]
    assert choose(names, HubId("o/m", "", "Q8_0"), "") == "m-Q8_0-00001-of-00002.gguf"
    with pytest.raises(ModelError, match=r"no file is called 'Q5'; there is m-Q4_K_M-00001-of-00002\.gguf, m-Q8_0-00001"):
        choose(names, HubId("o/m", "", "Q5"), "")
