"""The door for files from outside: every number is looked at before it is used, every size before it is allocated.

Whatever is wrong with a file is one ContractError that names the file, the place in it and a remedy. Text and JSON come in
here, YAML and TOML in `yaml.py`, arrays in `arrays.py`, tensors in `safetensors.py` and `gguf.py`. Nothing here needs a
time limit: the work is bounded by the size of the file, and the size by a limit.
"""

from __future__ import annotations

import json
import re
import stat
import struct
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from logitproof.errors import ContractError
from logitproof.files.system import in_words
from logitproof.files.worded import place_of, quoted, worded

AGAIN = "dump or fetch the file again"
TEXT_LIMIT = 256 << 20
"""Bytes of text that are read at most: the largest tokenizer.json has some 30 MB."""
DEPTH_LIMIT = 100
"""Lists and objects within one another."""
DIGITS_LIMIT = 40
"""Digits of a whole number; tokenizer_config.json writes "no limit" as 10^30 with 31."""

M = TypeVar("M", bound=BaseModel)
Number = Annotated[int, Field(strict=True, ge=-(2**31), lt=2**31)]
"""An id, a position or a count in JSON of other people: none has more than 31 bits, and NumPy takes none of more than 63."""


class Foreign(BaseModel):
    """JSON of other people: what we need is typed strictly, what else is there is kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Cursor:
    """Reads a binary file from its start; every read is compared with the file's size first."""

    def __init__(self, path: Path) -> None:
        self.path, self.at, self.size = path, 0, regular_size(path)

    def magic(self, expected: bytes) -> None:
        start = self._bytes(len(expected), "magic")
        if start != expected:
            raise refusal(self.path, "magic", f"begins with {start!r}, not {expected!r}", "name another format with --from")

    def numbers(self, layout: str, *names: str) -> tuple[int, ...]:
        """Little-endian header fields, such as `<Iii`."""
        return struct.unpack(layout, self._bytes(struct.calcsize(layout), names[0]))

    def count(self, name: str, value: int, *, least: int = 1) -> int:
        """A count from a header, refused where it cannot be one."""
        if not least <= value < 2**31:
            raise refusal(self.path, name, f"is {value}", f"it must be at least {least}; {AGAIN}")
        return value

    def array(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """A memory-mapped array, if the file is long enough for it."""
        kind, count = np.dtype(dtype), 1
        for length in shape:
            count *= length
        self._needs(name, count * kind.itemsize)
        start, self.at = self.at, self.at + count * kind.itemsize
        if count == 0:
            return np.empty(shape, kind)
        return np.memmap(self.path, dtype=kind, mode="r", offset=start, shape=shape)

    def end(self, name: str) -> None:
        if self.at != self.size:
            text = f"the header promises {self.at} bytes, the file has {self.size}"
            raise refusal(self.path, name, text, AGAIN)

    def _bytes(self, count: int, name: str) -> bytes:
        self._needs(name, count)
        with self.path.open("rb") as file:
            file.seek(self.at)
            self.at += count
            return file.read(count)

    def _needs(self, name: str, count: int) -> None:
        if self.at + count > self.size:
            text = f"needs {count} bytes at byte {self.at}, the file ends at {self.size}: cut off, or the counts are wrong"
            raise refusal(self.path, name, text, AGAIN)


def regular_size(path: Path, kind: type[ContractError] = ContractError) -> int:
    """Bytes of a file that can be read to its end: no folder, no device, no pipe."""
    try:
        state = path.stat()
    except (OSError, ValueError) as error:
        reason = in_words(error) if isinstance(error, OSError) else str(error)
        raise refusal(path, "", f"cannot be read: {reason}", "correct the path", kind) from None
    if not stat.S_ISREG(state.st_mode):
        raise refusal(path, "", "is no regular file", "correct the path", kind)
    return state.st_size


def read_bytes(path: Path, *, limit: int = TEXT_LIMIT, kind: type[ContractError] = ContractError) -> bytes:
    """The bytes of a file of sane size."""
    if (size := regular_size(path, kind)) > limit:
        raise refusal(path, "size", f"is {size} bytes; {limit} are read at most", "use a binary format", kind)
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise refusal(path, "", f"cannot be read: {in_words(error)}", "correct the path", kind) from None


def read_text(path: Path, *, limit: int = TEXT_LIMIT, remedy: str = AGAIN, kind: type[ContractError] = ContractError) -> str:
    """The text of a file of sane size."""
    try:
        text = read_bytes(path, limit=limit, kind=kind).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        text = f"is not UTF-8 text (line {line})"
        raise refusal(path, f"byte {error.start}", text, f"save it as UTF-8; {remedy}", kind) from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


HALF = re.compile(r"\\u[dD][89a-fA-F]")
HALF_BYTES = re.compile(HALF.pattern.encode() + rb"|\xed[\xa0-\xbf]")  # json reads these three bytes as half of a character


def read_json(path: Path, *, limit: int = TEXT_LIMIT, remedy: str = AGAIN, kind: type[ContractError] = ContractError) -> Any:
    """The JSON value of a file; refused beyond `limit` bytes, `DEPTH_LIMIT` levels, or `DIGITS_LIMIT` digits of a number."""
    return parse_json(read_text(path, limit=limit, remedy=remedy, kind=kind), path, remedy=remedy, kind=kind)


def read_object(
    path: Path, *, limit: int = TEXT_LIMIT, remedy: str = AGAIN, kind: type[ContractError] = ContractError, halves: bool = True
) -> dict[str, Any]:
    """The JSON object of a file; `halves` as of `parse_json`."""
    text = read_text(path, limit=limit, remedy=remedy, kind=kind)
    value = parse_json(text, path, remedy=remedy, kind=kind, halves=halves)
    if not isinstance(value, dict):
        raise refusal(path, "", f"is not a JSON object: {type(value).__name__}", remedy, kind)
    return value


def parse_json(
    text: str | bytes,
    path: Path,
    place: str = "",
    *,
    remedy: str = AGAIN,
    kind: type[ContractError] = ContractError,
    halves: bool = True,
) -> Any:
    """The JSON value of a text that stands in a file, under the limits of `read_json`.

    Without `halves`, half of a character is refused: no text that is hashed can hold it.
    """
    try:
        value = json.loads(text, parse_int=_whole)
    except json.JSONDecodeError as error:
        at = place or f"line {error.lineno}"
        raise refusal(path, at, f"is not JSON, or is cut off: {error.msg}", remedy, kind) from None
    except RecursionError:
        raise refusal(path, place, f"is nested more than {DEPTH_LIMIT} levels deep", remedy, kind) from None
    except ValueError as error:
        raise refusal(path, place, f"is not JSON that can be read: {error}", remedy, kind) from None
    if _is_deeper(value, DEPTH_LIMIT):
        raise refusal(path, place, f"is nested more than {DEPTH_LIMIT} levels deep", remedy, kind)
    if not halves:
        _refuse_halves(text, value, path, place, remedy, kind)
    return value


def _refuse_halves(text: str | bytes, value: Any, path: Path, place: str, remedy: str, kind: type[ContractError]) -> None:
    # Only an escape can bring a half, and most escapes of this sort are pairs.
    is_escaped = HALF.search(text) if isinstance(text, str) else HALF_BYTES.search(text)
    if not is_escaped:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise refusal(path, place, f"holds half of a character: {error.object[error.start]!a}", remedy, kind) from None


def validated(path: Path, model: type[M], value: Any, place: str = "", remedy: str = "see docs/formats.md") -> M:
    """The value as the model says; raises ContractError that names the field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        keys = place_of(first, value)
        at = ".".join([place, *map(str, keys)] if place else map(str, keys))
        raise refusal(path, at, f"{worded(first)}{quoted(first['input'])}", remedy) from None


def refusal(path: Path, place: str, text: str, remedy: str, kind: type[ContractError] = ContractError) -> ContractError:
    """A complaint about a file: which, where in it, what is wrong and the cure."""
    return kind(text, where=f"{path}: {place}" if place else str(path), remedy=remedy)


def whole(value: Any) -> int:
    """A whole number of a header; ValueError for anything else, infinity and truth among it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!a} is no whole number")
    return value


def _whole(text: str) -> int:
    if len(text) > DIGITS_LIMIT:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects stand within one another more than `limit` times; level by level, without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        if not level:
            return False
        parts = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for part in parts for child in part if isinstance(child, dict | list)]
    return bool(level)
