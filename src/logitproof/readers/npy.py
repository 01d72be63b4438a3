"""The format `npy`: one NumPy array of logits, never with pickled objects."""

from __future__ import annotations

import tokenize
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.untrusted import AGAIN, refusal
from logitproof.readers import Peek, Reader
from logitproof.readers._files import logits_of, only_prompt
from logitproof.readers._sidecar import prompt_of, read_sidecar, write_sidecar
from logitproof.traces.dump import Dump

MAGIC = b"\x93NUMPY"
UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError, TypeError, tokenize.TokenError)
"""What NumPy raises for headers that are damaged in one way or another."""


@dataclass
class Npy(Reader):
    """A `.npy` file of logits, [T, V] or [V], float16, float32 or float64; token ids in a sidecar NAME.json."""

    def recognizes(self, peek: Peek) -> bool:
        return peek.head.startswith(MAGIC)

    def read(self, path: Path) -> Dump:
        try:
            # Mapped, so that a header of absurd sizes allocates nothing.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except UNREADABLE as error:
            raise refusal(path, "header", f"is no .npy file of plain numbers, or is cut off: {error}", AGAIN) from None
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim not in (1, 2) or 0 in array.shape:
            held = f"{array.dtype} of shape {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise refusal(path, "header", f"holds {held}", "save floating-point logits of shape [T, V]")
        rows = array.reshape(-1, array.shape[-1])
        if rows.dtype.itemsize == 2:
            rows = rows.astype(np.float32)
        side = read_sidecar(path)
        return Dump((prompt_of(path, side, rows),), int(rows.shape[1]), versions=side.versions)

    def write(self, dump: Dump, path: Path) -> None:
        prompt = only_prompt(dump, path)
        logits = logits_of(prompt, path)
        write_sidecar(dump, prompt, path, logits)
        with path.open("wb") as file:
            np.save(file, logits, allow_pickle=False)
