"""The safetensors container with NumPy alone: a JSON header and mapped arrays. A golden must not need more."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from logitproof.files.untrusted import AGAIN, Cursor, parse_json, refusal, whole

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"}
DTYPES |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1"}
NAMES = {np.dtype(layout): name for name, layout in reversed(DTYPES.items()) if name != "BOOL"}
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
    header = parse_json(bytes(file.array("header", "u1", (length,))), path, "header")
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
    def names(self) -> set[str]:
        return set(self._header)

    def array(self, name: str, dtype: str | None = None, dims: int | None = None) -> np.ndarray:
        """One tensor; refused if it is missing, cut off, or of another kind (`dtype` is a NumPy kind letter)."""
        if name not in self._header:
            known = ", ".join(sorted(self._header)[:8])
            raise refusal(self.path, name, f"is not in the file, which holds {known or 'nothing'}", AGAIN)
        try:
            entry = self._header[name]
            shape, layout = tuple(whole(length) for length in entry["shape"]), np.dtype(DTYPES[entry["dtype"]])
            start, end = (whole(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise refusal(self.path, name, f"has a damaged or unknown description: {error}", AGAIN) from None
        if len(shape) > DIMENSIONS or any(length >= LENGTH_LIMIT for length in shape):
            raise refusal(self.path, name, f"has a shape of {len(shape)} dimensions, up to {max(shape)}", AGAIN)
        file = Cursor(self.path)
        count = layout.itemsize
        for length in shape:
            count *= length
        if start < 0 or any(length < 0 for length in shape) or end - start != count:
            text = f"{list(shape)} of {layout} is {count} bytes, its place has {end - start}"
            raise refusal(self.path, name, text, AGAIN)
        if (dtype is not None and layout.kind not in dtype) or (dims is not None and len(shape) != dims):
            raise refusal(self.path, name, f"is {layout} of shape {list(shape)}", "see docs/formats.md for what stands there")
        file.at = self._begin + start
        return file.array(name, layout.str, shape)


class TensorsWriter:
    """Writes tensors one after another into a scratch file, then the whole with its header, atomically."""

    def __init__(self, path: Path) -> None:
        self.path, self._scratch = path, path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._body: BinaryIO = self._scratch.open("w+b")
        self._entries: dict[str, Any] = {}

    def add(self, name: str, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array)
        start = self._body.tell()
        self._body.write(data.tobytes())
        kind = NAMES[data.dtype]
        self._entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, self._body.tell()]}

    def finish(self, metadata: Mapping[str, str]) -> int:
        """Put header and data in place; the size of the file."""
        header = json.dumps({"__metadata__": dict(metadata), **self._entries}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        whole = self.path.with_name(f".{self.path.name}.whole")
        with whole.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            self._body.seek(0)
            shutil.copyfileobj(self._body, file)
        self.abandon()
        whole.replace(self.path)
        return self.path.stat().st_size

    def abandon(self) -> None:
        """Remove the scratch file."""
        self._body.close()
        self._scratch.unlink(missing_ok=True)
