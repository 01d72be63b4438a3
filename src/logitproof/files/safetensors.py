"""The safetensors container with NumPy alone: a JSON header and mapped arrays. A golden must not need more."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from logitproof.files.causes import cause_of
from logitproof.files.untrusted import AGAIN, Cursor, parse_json, refusal, whole

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"}
DTYPES |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1"}
NAMES = {np.dtype(layout): name for name, layout in reversed(DTYPES.items()) if name != "BOOL"}
FLOATS = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""How the floating-point types are read; NumPy has no bfloat16, so its bits are."""
HEADER_LIMIT = 100 << 20
DIMENSIONS, LENGTH_LIMIT = 8, 1 << 48


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether the first bytes are a header length that the file can hold, and the start of a JSON object."""
    return len(head) > 9 and struct.unpack("<Q", head[:8])[0] <= size - 8 and head[8:9] == b"{"


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header and where the data begins."""
    file = Cursor(path)
    (length,) = file.numbers("<Q", "header length")
    if not 2 <= length <= min(HEADER_LIMIT, file.size - 8):
        raise refusal(path, "header length", f"is {length}, the file has {file.size} bytes", f"not safetensors; {AGAIN}")
    header = parse_json(bytes(file.array("header", "u1", (length,))), path, "header", halves=False)
    if not isinstance(header, dict):
        raise refusal(path, "header", "is not a JSON object", AGAIN)
    return header, file.at


class Tensors:
    """The mapped arrays of a safetensors file, and its metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header, self._begin = read_header(path)
        metadata = self._header.pop("__metadata__", {})
        texts = metadata if isinstance(metadata, dict) else {}
        self.metadata: dict[str, str] = {key: value for key, value in texts.items() if isinstance(value, str)}

    @property
    def names(self) -> list[str]:
        """In the order of the header."""
        return list(self._header)

    @property
    def promised(self) -> int:
        """Bytes that the whole file has by its header."""
        return self._begin + max((self._place(name)[3] for name in self._header), default=0)

    def kind(self, name: str) -> str:
        """The type of a tensor as the container calls it, such as `BF16`."""
        return self._place(name)[0]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._place(name)[1]

    def raw(self, name: str) -> np.ndarray:
        """The mapped bytes of a tensor of any type, uint8 [bytes]."""
        _, _, start, end = self._place(name)
        file = Cursor(self.path)
        file.at = self._begin + start
        return file.array(name, "u1", (end - start,))

    def array(self, name: str, dtype: str | None = None, dims: int | None = None) -> np.ndarray:
        """One tensor; refused if it is missing, cut off, or of another kind (`dtype` is a NumPy kind letter)."""
        kind, shape, start, end = self._place(name)
        if kind not in DTYPES:
            raise refusal(self.path, name, f"has a damaged or unknown description: {kind!r}", AGAIN)
        layout = np.dtype(DTYPES[kind])
        count = math.prod(shape) * layout.itemsize
        if end - start != count:
            text = f"{list(shape)} of {layout} is {count} bytes, its place has {end - start}"
            raise refusal(self.path, name, text, AGAIN)
        if (dtype is not None and layout.kind not in dtype) or (dims is not None and len(shape) != dims):
            raise refusal(self.path, name, f"is {layout} of shape {list(shape)}", "see docs/formats.md for what stands there")
        return self.raw(name).view(layout).reshape(shape)

    def _place(self, name: str) -> tuple[str, tuple[int, ...], int, int]:
        """Type, shape, and where the data begins and ends behind the header."""
        if name not in self._header:
            known = ", ".join(sorted(self._header)[:8])
            raise refusal(self.path, name, f"is not in the file, which holds {known or 'nothing'}", AGAIN)
        try:
            entry = self._header[name]
            kind, shape = str(entry["dtype"]), tuple(whole(length) for length in entry["shape"])
            start, end = (whole(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise refusal(self.path, name, f"has a damaged or unknown description: {cause_of(error)}", AGAIN) from None
        if len(shape) > DIMENSIONS or any(length >= LENGTH_LIMIT for length in shape):
            raise refusal(self.path, name, f"has a shape of {len(shape)} dimensions, up to {max(shape)}", AGAIN)
        if not 0 <= start <= end or any(length < 0 for length in shape):
            raise refusal(self.path, name, f"lies from {start} to {end} with the shape {list(shape)}", AGAIN)
        return kind, shape, start, end


def widened(raw: np.ndarray, kind: str) -> np.ndarray:
    """float32 of the bytes of a tensor of a type in `FLOATS`, exact for those of 16 and 32 bits."""
    if kind == "BF16":  # the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return raw.view(FLOATS[kind]).astype(np.float32)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays that are all there, one after another."""
    entries, at = {}, 0
    for name, array in tensors.items():
        entries[name] = _entry(array, at)
        at += array.nbytes
    with path.open("wb") as file:
        file.write(_header(entries, metadata))
        for array in tensors.values():
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


def write_pieces(path: Path, entries: Mapping[str, tuple[str, tuple[int, ...]]], pieces: Iterable[np.ndarray]) -> str:
    """Write tensors of these types and shapes, whose bytes come in order in pieces of any size; the sha256 of the file."""
    placed, at = {}, 0
    for name, (kind, shape) in entries.items():
        end = at + math.prod(shape) * np.dtype({**DTYPES, **FLOATS}[kind]).itemsize
        placed[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    head = _header(placed, {"format": "pt"})
    digest = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        for piece in pieces:
            data = np.ascontiguousarray(piece).data.cast("B")
            digest.update(data)
            file.write(data)
        if file.tell() != len(head) + at:
            raise ValueError(f"{path} was promised {at} bytes, and given {file.tell() - len(head)}")
    return digest.hexdigest()


def _entry(array: np.ndarray, start: int) -> dict[str, Any]:
    name = NAMES[array.dtype.newbyteorder("<")]
    return {"dtype": name, "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}


def _header(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """u64 length, then the header as JSON, padded so that the data begins at a multiple of 8."""
    text = json.dumps({"__metadata__": dict(metadata), **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class TensorsWriter:
    """Writes tensors one after another into a scratch file, then the whole with its header, atomically."""

    def __init__(self, path: Path) -> None:
        self.path, self._scratch = path, path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._body: BinaryIO = self._scratch.open("w+b")
        self._entries: dict[str, Any] = {}
        self.checksums: dict[str, str] = {}
        """sha256 of the bytes of every array that was added"""

    def add(self, name: str, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array).tobytes()
        start = self._body.tell()
        self._body.write(data)
        self._entries[name] = _entry(array, start)
        self.checksums[name] = hashlib.sha256(data).hexdigest()

    def finish(self, metadata: Mapping[str, str]) -> int:
        """Put header and data in place; the size of the file."""
        whole = self.path.with_name(f".{self.path.name}.whole")
        try:
            with whole.open("wb") as file:
                file.write(_header(self._entries, metadata))
                self._body.seek(0)
                shutil.copyfileobj(self._body, file)
            self.abandon()
            whole.replace(self.path)
        finally:
            whole.unlink(missing_ok=True)
        return self.path.stat().st_size

    def abandon(self) -> None:
        """Remove the scratch file."""
        self._body.close()
        self._scratch.unlink(missing_ok=True)
