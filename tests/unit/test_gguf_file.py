"""The reader of GGUF files: what gguf-py reads, or one clear error; never a hang, and never more memory than the file."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from logitproof.errors import ModelError
from logitproof.files.gguf import ITEM_LIMIT, GgufFile
from logitproof.weights.model import open_model

ZOO = Path(__file__).parents[2] / "zoo" / "gguf"
FULL = (1 << 64) - 1


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str, kind: int, body: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + body


def strings(name: str, values: list[str]) -> bytes:
    return key(name, 9, struct.pack("<IQ", 8, len(values)) + b"".join(text(value) for value in values))


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def built(keys: list[bytes], tensors: list[bytes], data: bytes = b"", *, version: int = 3, counts: Any = None) -> bytes:
    count, number = counts or (len(tensors), len(keys))
    header = b"GGUF" + struct.pack("<IQQ", version, count, number) + b"".join(keys) + b"".join(tensors)
    return header + b"\0" * (-len(header) % 32) + data if data else header


ARCHITECTURE = key("general.architecture", 8, text("llama"))
SOUND = built(
    [
        ARCHITECTURE,
        strings("tokenizer.ggml.tokens", ["a", "", "é\n", "\0"]),
        key("tokenizer.ggml.scores", 9, struct.pack("<IQ3f", 6, 3, 0.5, -1.0, 2.0)),
        key("flags", 9, struct.pack("<IQ3?", 7, 3, True, False, True)),
        key("nothing", 9, struct.pack("<IQ", 8, 0)),
        *(key(f"scalar.{kind}", kind, struct.pack(f"<{form}", 1)) for kind, form in zip(range(8), "BbHhIif?", strict=True)),
        *(key(f"scalar.{kind}", kind, struct.pack(f"<{form}", 1)) for kind, form in zip(range(10, 13), "Qqd", strict=True)),
    ],
    [tensor("a.weight", (4, 2), 0, 0), tensor("b.weight", (32, 2), 8, 32), tensor("c", (3,), 28, 128)],
    np.arange(8, dtype="<f4").tobytes() + bytes(range(68)) + b"\0" * 28 + np.arange(3, dtype="<f8").tobytes(),
)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "x.gguf"
    path.write_bytes(data)
    return path


def assert_reads_what_gguf_reads(path: Path) -> None:
    ours, theirs = GgufFile(path), gguf.GGUFReader(path)
    fields = {name: entry for name, entry in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.fields) == list(fields)
    for name, entry in fields.items():
        # gguf-py looks for the type of items in the first of them.
        known = list(ours.fields[name].types) if len(ours.fields[name]) else [gguf.GGUFValueType.ARRAY]
        assert known == entry.types
        assert repr(ours.fields[name].contents()) == repr(entry.contents())  # NaN is NaN
    assert [entry.name for entry in ours.tensors] == [entry.name for entry in theirs.tensors]
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert mine.tensor_type == other.tensor_type
        assert list(mine.shape) == other.shape.tolist()
        assert (mine.n_elements, mine.n_bytes, mine.data_offset) == (other.n_elements, other.n_bytes, other.data_offset)
        assert mine.data.dtype == other.data.dtype
        assert mine.data.shape == other.data.shape
        assert mine.data.tobytes() == other.data.tobytes()


def test_a_sound_file_reads_as_gguf_reads_it(tmp_path: Path) -> None:
    assert_reads_what_gguf_reads(write(tmp_path, SOUND))


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.gguf")), ids=lambda path: path.stem)
def test_every_file_of_the_zoo_reads_as_gguf_reads_it(path: Path) -> None:
    assert_reads_what_gguf_reads(path)


@pytest.mark.parametrize("kind", list(gguf.GGML_QUANT_SIZES))
def test_every_type_of_tensor_has_its_size(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = bytes(value % 251 for value in range(3 * 2 * size))
    assert_reads_what_gguf_reads(write(tmp_path, built([ARCHITECTURE], [tensor("t", (2 * block, 3), kind, 0)], data)))


def test_version_2_is_read_as_well(tmp_path: Path) -> None:
    assert_reads_what_gguf_reads(write(tmp_path, SOUND[:4] + struct.pack("<I", 2) + SOUND[8:]))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "size"),
    "a header cut off": (SOUND[:20], "size"),
    "another magic": (b"GGML" + SOUND[4:], "magic"),
    "version 1": (SOUND[:4] + struct.pack("<I", 1) + SOUND[8:], "version: is 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "2^64 - 1 keys": (built([ARCHITECTURE], [], counts=(0, FULL)), "key count"),
    "2^64 - 1 tensors": (built([ARCHITECTURE], [], counts=(FULL, 1)), "tensor count"),
    "a key's name of 2^63 bytes": (built([struct.pack("<Q", 1 << 63)], [], b"\0" * 64, counts=(0, 1)), "key 0"),
    "a text of 2^64 - 1 bytes": (built([key("k", 8, struct.pack("<Q", FULL))], []), "k: is a text of"),
    "an array of 2^62 numbers": (built([key("k", 9, struct.pack("<IQ", 4, 1 << 62))], []), "k: is 46"),
    "an array of 2^40 texts": (built([key("k", 9, struct.pack("<IQ", 8, 1 << 40))], []), "k: is 10"),
    "an array of arrays": (built([key("k", 9, struct.pack("<IQ", 9, 1) * 100)], []), "array of arrays"),
    "a text in an array that goes beyond": (
        built([key("k", 9, struct.pack("<IQ", 8, 3) + text("a") + struct.pack("<Q", FULL) + b"\0" * 64)], []),
        "k[1]: goes beyond",
    ),
    "an unknown type of value": (built([key("k", 13, b"\0" * 32)], []), "k: has the unknown type 13"),
    "an unknown type of items": (built([key("k", 9, struct.pack("<IQ", 99, 1))], []), "k: has the unknown type 99"),
    "a key that stands twice": (built([ARCHITECTURE, ARCHITECTURE], []), "stands twice"),
    "a key that is no text": (built([key("k", 4, b"\0" * 4).replace(b"k", b"\xff")], []), "key 0: is not UTF-8"),
    "five dimensions": (built([], [tensor("t", (1,) * 5, 0, 0)], b"\0" * 64), "t: has 5 dimensions"),
    "2^32 - 1 dimensions": (built([], [text("t") + struct.pack("<I", 2**32 - 1) + b"\0" * 64]), "t: has 4294967295 dimensions"),
    "dimensions whose product wraps": (built([], [tensor("t", (1 << 33, 1 << 33), 0, 0)], b"\0" * 64), "t: has the shape"),
    "a dimension of 0": (built([], [tensor("t", (0, 1 << 62), 0, 0)], b"\0" * 64), "holds nothing"),
    "an unknown type of tensor": (built([], [tensor("t", (32,), 38, 0)], b"\0" * 64), "t: has the unknown tensor type 38"),
    "a row of half a block": (built([], [tensor("t", (16, 2), 8, 0)], b"\0" * 64), "whole blocks of 32"),
    "an offset of 2^64 - 32": (built([], [tensor("t", (8,), 0, FULL - 31)], b"\0" * 64), "t: has the shape [8]"),
    "an offset between": (built([], [tensor("t", (8,), 0, 4)], b"\0" * 64), "no multiple of the alignment 32"),
    "a tensor that stands twice": (
        built([], [tensor("t", (8,), 0, 0), tensor("t", (8,), 0, 32)], b"\0" * 64), "t: stands twice"
    ),
    "two tensors in one place": (
        built([], [tensor("t", (16,), 0, 0), tensor("u", (8,), 0, 32)], b"\0" * 64), "u: lies at offset 32"
    ),
    "an alignment of 0": (built([key("general.alignment", 4, b"\0" * 4)], []), "general.alignment"),
    "an alignment of 48": (built([key("general.alignment", 4, struct.pack("<I", 48))], []), "general.alignment"),
    "an alignment that is a text": (built([key("general.alignment", 8, text("32"))], []), "general.alignment"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_is_one_error_that_names_file_and_place(tmp_path: Path, name: str) -> None:
    data, place = HOSTILE[name]
    path = write(tmp_path, data)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as raised:
            GgufFile(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert place in str(raised.value)
    assert raised.value.where.startswith(str(path))
    assert raised.value.remedy
    with pytest.raises(ModelError):
        open_model(path)


def test_a_text_that_is_no_utf_8_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, built([strings("k", ["a", "b", "ÿ"]).replace("ÿ".encode(), b"\xff\xfe")], []))
    values = GgufFile(path).fields["k"].value
    assert [values[0], values[1]] == ["a", "b"]
    with pytest.raises(ModelError, match=r"k\[2\]: is not UTF-8"):
        values.tolist()


def test_texts_that_hold_every_control_character_are_read(tmp_path: Path) -> None:
    values = [chr(code) for code in range(33)] + ["", "end"]
    assert GgufFile(write(tmp_path, built([strings("k", values)], []))).value("k") == values


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The sound file with up to three faults: another byte, a number of eight bytes, a cut, a piece put in or taken out."""
    data = bytearray(SOUND)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        fault = draw(st.sampled_from(("byte", "number", "cut", "put", "take")))
        if fault == "byte":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif fault == "number":
            data[at : at + 8] = struct.pack("<Q", draw(st.sampled_from((0, 1, 2**31, 2**32, 2**63 - 1, 2**63, FULL))))
        elif fault == "cut":
            del data[at:]
        elif fault == "put":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
        else:
            del data[at : at + draw(st.integers(1, 16))]
    return bytes(data)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=mutated())
@example(data=SOUND[:52] + bytes([9]) + SOUND[53:])
def test_a_damaged_file_reads_as_gguf_reads_it_or_is_one_error(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, data)
    refused = None
    try:
        file = GgufFile(path)
        for entry in file.fields.values():
            entry.contents()
    except ModelError as error:
        refused = error
    if refused is None:
        assert_reads_what_gguf_reads(path)
    else:
        assert str(path) in refused.where


def test_the_damaged_byte_that_hung_the_set_up_is_refused_at_once(tmp_path: Path) -> None:
    """Byte 52 of a file whose first key is the architecture: its type, text (8) turned into array (9)."""
    assert SOUND[52] == 8
    path = write(tmp_path, SOUND[:52] + bytes([9]) + SOUND[53:])
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"general\.architecture"):
        open_model(path)
    assert time.monotonic() - start < 5


def test_a_vocabulary_of_262144_tokens_is_opened_without_an_object_a_string(tmp_path: Path) -> None:
    count = 1 << 18
    keys = [ARCHITECTURE, strings("tokens", [f"t{n}" for n in range(count)]), strings("merges", ["a b"] * count)]
    path = write(tmp_path, built(keys, []))
    tracemalloc.start()
    file = GgufFile(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 8 * 2 * count
    assert len(file.fields["tokens"]) == count
    assert file.fields["tokens"].value[count - 1] == f"t{count - 1}"
    assert file.value("tokens") == [f"t{n}" for n in range(count)]


def test_more_items_than_any_vocabulary_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with path.open("wb") as file:
        file.write(built([key("k", 9, struct.pack("<IQ", 8, ITEM_LIMIT + 1))], []))
        file.truncate(1 << 30)  # sparse
    with pytest.raises(ModelError, match="read at most"):
        GgufFile(path)


@pytest.mark.parametrize("name", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, name: str) -> None:
    import os

    path = tmp_path / name
    path.mkdir() if name == "folder" else os.mkfifo(path)
    with pytest.raises(ModelError, match="no regular file"):
        GgufFile(path)


@pytest.mark.parametrize(("parts", "is_whole"), [(0, True), (1, True), (2, False), (12, False)])
def test_a_part_of_a_model_is_no_model(tmp_path: Path, parts: int, is_whole: bool) -> None:
    """An engine would read the other parts, too: a model of which one is missing is none."""
    path = tmp_path / f"m-00001-of-{parts:05}.gguf"
    path.write_bytes(built([ARCHITECTURE, key("split.count", 2, struct.pack("<H", parts))], []))
    if is_whole:
        assert open_model(path).architecture == "llama"
        return
    with pytest.raises(ModelError, match=f"is part 1 of {parts} of a model, and m-00002-of-{parts:05}.gguf is not") as raised:
        open_model(path)
    assert "fetch all parts" in raised.value.remedy
