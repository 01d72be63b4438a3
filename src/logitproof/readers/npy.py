"""The format `npy`: one NumPy array of logits, never with pickled objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.arrays import read_array
from logitproof.readers import Peek, Reader
from logitproof.readers._arrays import rows_of
from logitproof.readers._files import logits_of, only_prompt
from logitproof.readers._sidecar import prompt_of, read_sidecar, write_sidecar
from logitproof.traces.dump import READ_AS, Dump

MAGIC = b"\x93NUMPY"


@dataclass
class Npy(Reader):
    """A `.npy` file of logits, [T, V], [1, T, V] or [V], float16, float32, float64, or bfloat16's bits as uint16; token ids in
    a sidecar NAME.json.
    """

    def recognizes(self, peek: Peek) -> bool:
        return peek.head.startswith(MAGIC)

    def read(self, path: Path) -> Dump:
        rows, reading = rows_of(read_array(path), path, "header")
        side = read_sidecar(path)
        about = {**side.provenance, READ_AS: reading} if reading else side.provenance
        return Dump((prompt_of(path, side, rows),), int(rows.shape[1]), versions=side.versions, provenance=about)

    def write(self, dump: Dump, path: Path) -> None:
        prompt = only_prompt(dump, path)
        logits = logits_of(prompt, path)
        write_sidecar(dump, prompt, path, logits)
        with path.open("wb") as file:
            np.save(file, logits, allow_pickle=False)
