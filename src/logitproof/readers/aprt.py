"""The format `aprt`: intermediate tensors of a layer, read only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.untrusted import AGAIN, Cursor, refusal
from logitproof.readers import Peek, Reader
from logitproof.traces.dump import Dump

MAGIC, WHOLE = b"APRT", 0xFFFFFFFF


@dataclass
class Aprt(Reader):
    """`APRT`: char[4] magic, u32 layer (0xFFFFFFFF: the whole model), u32 dim, f32 rows of dim; records may follow each other.

    Read into taps (`layers.3`, `model`); it holds no tokens and no logits.
    """

    def recognizes(self, peek: Peek) -> bool:
        return peek.head.startswith(MAGIC) and not peek.head.startswith(b"APRTX")

    def read(self, path: Path) -> Dump:
        file, taps = Cursor(path), dict[str, np.ndarray]()
        while file.at < file.size or not taps:
            file.magic(MAGIC)
            layer, dim = file.numbers("<II", "layer")
            name = "model" if layer == WHOLE else f"layers.{layer}"
            if name in taps:
                raise refusal(path, name, "stands twice", "write one record a layer")
            rows = _rows(file, file.count("dim", dim))
            taps[name] = file.array(f"{name}, data", "<f4", (rows, dim))
        return Dump((), taps=taps, provenance={"taps": sorted(taps)})


def _rows(file: Cursor, dim: int) -> int:
    """Rows until the next record or the end of the file."""
    rest, width = file.size - file.at, 4 * dim
    if rest < width:
        raise refusal(file.path, "dim", f"is {dim}, but only {rest} bytes follow", AGAIN)
    data = np.memmap(file.path, np.uint8, "r", offset=file.at, shape=(rest,))
    starts = np.flatnonzero(data[: rest // width * width].view("<u4").reshape(-1, dim)[:, 0] == int.from_bytes(MAGIC, "little"))
    if starts.size:
        return max(int(starts[0]), 1)
    rows = rest // width
    if rest % width and bytes(data[rows * width :][:4]) != MAGIC:
        raise refusal(file.path, "rows", f"of {dim} numbers do not fill the {rest} bytes that follow", AGAIN)
    return rows
