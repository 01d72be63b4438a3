"""The engine `dumper`: a program that takes token ids and writes its logits to a file, as raw numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from logitproof.engines import Mode
from logitproof.engines._program import ProgramEngine, ProgramFailed, Run, TokenFile, WhichRows
from logitproof.errors import Refusal


@dataclass
class Dumper(ProgramEngine):
    """A program run once a request, unchanged: token ids in by argument, variable or file, raw logits out to a file.

    Places in `argv` and `environment`, no shell: {model} {config} {tokens} {tokens_file} {count} {mode} {out}. {tokens}
    are the ids joined by `separator`, {tokens_file} a file of them as `tokens_as` says, {out} the file to write:
    little-endian `dtype` after `skip_bytes`, [T, V]; or [V] where `rows` is last, then each prefix is a run of its own.
    `vocab_size` is read from the model unless given; `modes` other than prefill need {mode}.
    """

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    separator: str = ","
    tokens_as: TokenFile = "text"
    rows: WhichRows = "all"
    dtype: Literal["float32", "float64", "float16"] = "float32"
    skip_bytes: int = 0
    vocab_size: int | None = None
    modes: list[Mode] = field(default_factory=lambda: list[Mode](["prefill"]))
    generates: bool = True
    timeout: float = 300.0

    def __post_init__(self) -> None:
        if not self._program.needs("out"):
            raise Refusal("nothing tells the program where to write", field="argv", remedy="put {out} in argv or environment")

    def read(self, run: Run, count: int) -> np.ndarray:
        if not run.out.is_file():
            raise ProgramFailed(f"it ended and wrote no file {{out}}{run.quoted()}")
        kind = np.dtype(self.dtype).newbyteorder("<")
        size, wanted = run.out.stat().st_size, self.skip_bytes + count * self._size * kind.itemsize
        if size != wanted:
            raise ProgramFailed(
                f"{{out}} has {size} bytes, {count} rows of {self._size} {self.dtype} are {wanted}{run.quoted()}"
            )
        rows = np.fromfile(run.out, kind, offset=self.skip_bytes).reshape(count, self._size)
        return rows if rows.dtype.itemsize >= 4 else rows.astype(np.float32)
