"""The format `aprrawlg`: a binary header, token ids and float32 logits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.untrusted import Cursor, refusal
from logitproof.readers import Peek, Reader
from logitproof.readers._files import logits_of, only_prompt
from logitproof.traces.dump import Dump, DumpedPrompt

MAGIC, VERSION = b"APRRAWLG", 1


@dataclass
class Aprrawlg(Reader):
    """`APRRAWLG`: char[8] magic, u32 version 1, i32 n_pos, i32 n_vocab, i32 ids[n_pos], f32 logits[n_pos, n_vocab]."""

    def recognizes(self, peek: Peek) -> bool:
        return peek.head.startswith(MAGIC)

    def read(self, path: Path) -> Dump:
        file = Cursor(path)
        file.magic(MAGIC)
        version, positions, vocab = file.numbers("<Iii", "version")
        if version != VERSION:
            raise refusal(path, "version", f"is {version}, only {VERSION} is known", "write it in that version")
        positions, vocab = file.count("n_pos", positions), file.count("n_vocab", vocab, least=2)
        ids = file.array("ids", "<i4", (positions,)).tolist()
        logits = file.array("logits", "<f4", (positions, vocab))
        file.end("logits")
        return Dump((DumpedPrompt(path.stem, ids, positions, np.arange(positions), logits),), vocab)

    def write(self, dump: Dump, path: Path) -> None:
        prompt = only_prompt(dump, path)
        if not prompt.is_complete:
            raise refusal(path, f"prompt {prompt.id}", "this format holds a row for every token", "dump every position")
        logits = np.ascontiguousarray(logits_of(prompt, path), "<f4")
        header = struct.pack("<8sIii", MAGIC, VERSION, *logits.shape)
        path.write_bytes(header + np.array(prompt.token_ids, "<i4").tobytes() + logits.tobytes())
