"""Reading what nobody vouches for: every number is looked at before it is used."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from logitproof.errors import ContractError

AGAIN = "dump or fetch the file again"


class Foreign(BaseModel):
    """JSON of other people: what we need is typed strictly, what else is there is kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Cursor:
    """Reads a binary file from its start; every read is compared with the file's size first."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise refusal(path, "", f"cannot be read: {error.strerror}", "correct the path") from None

    def magic(self, expected: bytes) -> None:
        found = self._bytes(len(expected), "magic")
        if found != expected:
            raise refusal(self.path, "magic", f"begins with {found!r}, not {expected!r}", "name another format with --from")

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


def refusal(path: Path, place: str, text: str, remedy: str) -> ContractError:
    """A complaint about a file: which, where in it, what is wrong and the cure."""
    return ContractError(text, where=f"{path}: {place}" if place else str(path), remedy=remedy)
