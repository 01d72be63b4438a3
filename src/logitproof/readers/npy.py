"""The format `npy`: one NumPy array of logits, never with pickled objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.arrays import read_array
from logitproof.files.untrusted import refusal
from logitproof.readers import Peek, Reader
from logitproof.readers._files import logits_of, only_prompt
from logitproof.readers._sidecar import prompt_of, read_sidecar, write_sidecar
from logitproof.traces.dump import Dump

MAGIC = b"\x93NUMPY"


@dataclass
class Npy(Reader):
    """A `.npy` file of logits, [T, V] or [V], float16, float32 or float64; token ids in a sidecar NAME.json."""

    def recognizes(self, peek: Peek) -> bool:
        return peek.head.startswith(MAGIC)

    def read(self, path: Path) -> Dump:
        array = read_array(path)
        if array.dtype.kind != "f" or array.ndim not in (1, 2) or 0 in array.shape:
            text = f"holds {array.dtype} of shape {list(array.shape)}"
            raise refusal(path, "header", text, "save floating-point logits of shape [T, V]")
        rows = array.reshape(-1, array.shape[-1])
        if rows.dtype.itemsize == 2:
            rows = rows.astype(np.float32)
        side = read_sidecar(path)
        return Dump((prompt_of(path, side, rows),), int(rows.shape[1]), versions=side.versions, provenance=side.provenance)

    def write(self, dump: Dump, path: Path) -> None:
        prompt = only_prompt(dump, path)
        logits = logits_of(prompt, path)
        write_sidecar(dump, prompt, path, logits)
        with path.open("wb") as file:
            np.save(file, logits, allow_pickle=False)
