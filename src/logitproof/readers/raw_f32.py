"""The format `raw_f32`: nothing but float32 logits, and a sidecar that says how many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.untrusted import Cursor, refusal
from logitproof.readers import Peek, Reader
from logitproof.readers._files import logits_of, only_prompt
from logitproof.readers._sidecar import find_sidecar, prompt_of, read_sidecar, write_sidecar
from logitproof.traces.dump import Dump

HOW = 'put {"vocab": V, "n_pos": T, "token_ids": [...]} into NAME.json, or VOCAB= and NPOS= lines into NAME.txt'


@dataclass
class RawF32(Reader):
    """Raw little-endian float32 `[n_pos, vocab]` with `VOCAB=` and `NPOS=` in NAME.txt, or a JSON sidecar NAME.json.

    `TOKENS=1,2,3` or `token_ids` in the sidecar says what the rows are of.
    """

    def recognizes(self, peek: Peek) -> bool:
        if peek.keys or peek.size == 0 or find_sidecar(peek.path) is None:
            return False
        try:
            side = read_sidecar(peek.path)
        except ContractError:
            return False
        if side.vocab is None or side.vocab < 1:
            return False
        row = 4 * side.vocab
        return peek.size % row == 0 if side.positions is None else peek.size == row * side.positions

    def read(self, path: Path) -> Dump:
        side, file = read_sidecar(path), Cursor(path)
        if side.vocab is None:
            raise refusal(path, "VOCAB", "no sidecar says how wide a row is", HOW)
        vocab = file.count("VOCAB", side.vocab, least=2)
        rows = side.positions if side.positions is not None else file.size // (4 * vocab)
        logits = file.array("NPOS", "<f4", (file.count("NPOS", rows), vocab))
        file.end("NPOS")
        return Dump((prompt_of(path, side, logits),), vocab, versions=side.versions, provenance=side.provenance)

    def write(self, dump: Dump, path: Path) -> None:
        prompt = only_prompt(dump, path)
        logits = logits_of(prompt, path).astype("<f4")
        write_sidecar(dump, prompt, path, logits)
        np.ascontiguousarray(logits).tofile(path)
