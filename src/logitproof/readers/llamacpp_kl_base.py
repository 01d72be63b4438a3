"""The format `llamacpp_kl_base`: what `llama-perplexity --kl-divergence-base` writes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.untrusted import Cursor, refusal
from logitproof.readers import Peek, Reader
from logitproof.traces.dump import CodedRows, Dump, DumpedPrompt

MAGIC = b"_logits_"
DEPTH = 16.0
"""Nats below the largest logit at which the file clamps."""


@dataclass
class LlamacppKlBase(Reader):
    """llama.cpp's KL base file: `_logits_`, i32 n_ctx, n_vocab, n_chunk, i32 tokens, then rows of u16 log-probabilities.

    A row is f32 scale, f32 least log-probability, and one u16 an entry (one more if their number is odd). Only
    the second half of each window is there, without its last position. Everything 16 nats below the best
    is clamped, so that KL against the exact rows is about 5e-4 nats, not 0. Where the model adds a BOS,
    the first token of a window was fed as BOS, which the file does not show.
    """

    def recognizes(self, peek: Peek) -> bool:
        return peek.head.startswith(MAGIC)

    def read(self, path: Path) -> Dump:
        file = Cursor(path)
        file.magic(MAGIC)
        window, vocab, chunks = file.numbers("<iii", "n_ctx")
        window, vocab = file.count("n_ctx", window, least=3), file.count("n_vocab", vocab, least=2)
        tokens = file.array("tokens", "<i4", (file.count("n_chunk", chunks), window))
        first, width = window // 2, _width(vocab)
        rows = file.array("log-probabilities", "<u2", (chunks, window - 1 - first, width))
        file.end("log-probabilities")
        positions = np.arange(first, window - 1)
        prompts = [
            DumpedPrompt(str(chunk), tokens[chunk].tolist(), window, positions, _rows(rows[chunk], vocab))
            for chunk in range(chunks)
        ]
        said = {"values": "log-probabilities in 16 bits, clamped 16 nats below the best", "bos": "not shown in the tokens"}
        return Dump(tuple(prompts), vocab, provenance=said)

    def write(self, dump: Dump, path: Path) -> None:
        lengths = {len(prompt.token_ids) for prompt in dump.prompts}
        if len(lengths) != 1 or dump.vocab_size is None:
            raise refusal(path, "n_ctx", "all windows must have one length", "choose another format with --to")
        (window,) = lengths
        if window < 3:
            raise refusal(path, "n_ctx", f"a window of {window} tokens has no second half", "choose another format with --to")
        with path.open("wb") as file:
            file.write(MAGIC + struct.pack("<iii", window, dump.vocab_size, len(dump.prompts)))
            for prompt in dump.prompts:
                file.write(np.array(prompt.token_ids, "<i4").tobytes())
            for prompt in dump.prompts:
                for position in range(window // 2, window - 1):
                    file.write(_encoded(_row(prompt, position, path)))


def _width(vocab: int) -> int:
    """u16 numbers of a row: a header of four, and the entries filled up to an even number."""
    return 2 * ((vocab + 1) // 2) + 4


def _rows(coded: np.ndarray, vocab: int) -> CodedRows:
    def decode(row: int) -> np.ndarray:
        numbers = np.array(coded[row])
        scale, least = numbers[:4].view("<f4")
        return (numbers[4 : 4 + vocab].astype(np.float32) * scale + least).astype(np.float32)

    return CodedRows((len(coded), vocab), decode)


def _row(prompt: DumpedPrompt, position: int, path: Path) -> np.ndarray:
    at = int(np.searchsorted(prompt.positions, position))
    if prompt.logits is None or at >= len(prompt.positions) or prompt.positions[at] != position:
        text = f"has no logits at position {position}"
        raise refusal(path, f"prompt {prompt.id}", text, "the second half of every window must be there")
    return np.asarray(prompt.logits[at], np.float64)


def _encoded(logits: np.ndarray) -> bytes:
    best = logits.max()
    least = max(logits.min(), best - DEPTH)
    log_mass = np.log(np.exp(logits - best).sum())
    scale = np.float32((best - least) / 65535)
    steps = np.rint((np.maximum(logits, least) - least) / scale) if scale > 0 else np.zeros(len(logits))
    row = np.zeros(_width(len(logits)), "<u2")
    row[:4] = np.array([scale, least - best - log_mass], "<f4").view("<u2")
    row[4 : 4 + len(logits)] = np.minimum(steps, 65535)
    return row.tobytes()
