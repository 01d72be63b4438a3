"""Faults that are put into files, and what takes them: a border with sound files and its reader."""

from __future__ import annotations

import random
import re
import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from logitproof.engines._http import ServerError
from logitproof.engines._program import ProgramFailed
from logitproof.errors import ContractError, EngineError, Refusal
from logitproof.jobs.answers import Untrusted

REFUSALS = (ContractError, EngineError, Refusal, ServerError, ProgramFailed, Untrusted)
"""What a reader may raise: the file or the answer is wrong, and it says so."""
TOKENS = (
    b"9223372036854775808", b"-9223372036854775809", b"1" * 30, b"9" * 5000, b"-1", b"0", b"1e999", b"NaN", b"Infinity",
    b"-Infinity", b"null", b"true", b"[]", b"{}", b'""', b'"x"', b'"\\ud800"', b'"\\u0000"', b"[[]]",
    b'[{"x": [1]}]', b"2026-02-30", b"*a", b"&a", b"<<: ", b"? [a]\n: b", b"!!int x", b"!!timestamp x", b"\xff",
    b"\xed\xa0\x80", b"\x00", b"\r\n", b"%", b"'", b'"', b"\\", b"@@", b"../../..", b"/dev/zero",
)  # fmt: skip
DEEP = (b"[" * 3000, b'{"a":' * 3000)
"""Slow to refuse, and so one in fifty tokens."""
NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
VALUE = re.compile(rb'-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|"(?:[^"\\]|\\.)*"|true|false|null|\[\]|\{\}')


@dataclass(frozen=True)
class Target:
    """One border: sound files in a folder, which of them take faults, and what reads them."""

    name: str
    sample: Path
    files: tuple[str, ...]
    read: Callable[[Path], object]

    def broken(self, chance: random.Random, folder: Path) -> tuple[str, bytes]:
        """Put faults into one file of a copy of the sample in `folder`; its name and its content."""
        name = chance.choice(self.files)
        data = mutated((self.sample / name).read_bytes(), chance)
        (folder / name).write_bytes(data)
        return name, data

    def restore(self, folder: Path, name: str) -> None:
        """Undo `broken`."""
        shutil.copyfile(self.sample / name, folder / name)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes with up to three faults."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        begin = chance.randrange(min(len(data), 65536) or 1)
        value = VALUE.search(data, begin, begin + 4096) if chance.random() < 0.5 else None
        data = data[: value.start()] + _token(chance) + data[value.end() :] if value else _damaged(data, chance)
    return data


def _damaged(data: bytes, chance: random.Random) -> bytes:
    # Headers are at the front, and a fault among the numbers of a tensor tells little.
    at = chance.randrange(min(len(data), chance.choice((64, 1024, 1 << 30))) or 1)
    fault = chance.randrange(7)
    if fault == 0:
        return data[:at]
    if fault == 1:
        return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    if fault == 2:
        return data[:at] + struct.pack("<Q", chance.choice(NUMBERS)) + data[at + 8 :]
    if fault == 3:
        return data[:at] + struct.pack("<I", chance.choice(NUMBERS) % 2**32) + data[at + 4 :]
    if fault == 4:
        return data[:at] + data[at + chance.randrange(1, 32) :]
    if fault == 5:
        return data[:at] + _token(chance) + data[at:]
    start = chance.randrange(len(data) or 1)
    return data[:at] + data[start : start + chance.randrange(1, 64)] + data[at:]


def _token(chance: random.Random) -> bytes:
    return chance.choice(DEEP if chance.random() < 0.02 else TOKENS)


def each(steps: Iterable[Callable[[], object]]) -> None:
    """Do every step, whichever are refused; then raise the first refusal."""
    first: Exception | None = None
    for step in steps:
        try:
            step()
        except REFUSALS as error:
            first = first or error
    if first is not None:
        raise first
