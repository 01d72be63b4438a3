"""The format `llamacpp_kl_base`: what `llama-perplexity --kl-divergence-base` writes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from logitproof.files.atomic import environment_errors
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
        about = {"values": "log-probabilities in 16 bits, clamped 16 nats below the best", "bos": "not shown in the tokens"}
        return Dump(tuple(prompts), vocab, provenance=about)

    def write(self, dump: Dump, path: Path) -> None:
        lengths = {len(prompt.token_ids) for prompt in dump.prompts}
        if len(lengths) != 1 or dump.vocab_size is None:
            raise refusal(path, "n_ctx", "all windows must have one length", "choose another format with --to")
        (window,) = lengths
        if window < 3:
            raise refusal(path, "n_ctx", f"a window of {window} tokens has no second half", "choose another format with --to")
        token_ids = np.array([prompt.token_ids for prompt in dump.prompts])
        with KlBaseWriter(path, token_ids, dump.vocab_size) as writer:
            for prompt in dump.prompts:
                for position in range(window // 2, window - 1):
                    writer.write(_row(prompt, position, path)[None])


class KlBaseWriter:
    """A base file that is written window by window, so that no more than one is in memory. Use as a context manager.

    `token_ids` [windows, tokens] come first; rows [n, V], logits or log-probabilities, follow in their order. What was begun
    and not ended, since something failed, is taken away.
    """

    def __init__(self, path: Path, token_ids: np.ndarray, vocab_size: int) -> None:
        self.path = path
        self._rows = len(token_ids) * (token_ids.shape[1] - 1 - token_ids.shape[1] // 2)
        with environment_errors(path):
            self._file = path.open("wb")
            self._file.write(MAGIC + struct.pack("<iii", token_ids.shape[1], vocab_size, len(token_ids)))
            self._file.write(np.ascontiguousarray(token_ids, "<i4").tobytes())

    def __enter__(self) -> KlBaseWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with environment_errors(self.path):
            self._file.close()
        if kind is not None or self._rows:
            self.path.unlink(missing_ok=True)
        if kind is None and self._rows:
            raise refusal(self.path, "log-probabilities", f"{self._rows} rows are missing", "write a row for every position")

    def write(self, rows: np.ndarray) -> None:
        """Add rows behind those that are there."""
        with environment_errors(self.path):
            for row in rows:
                self._file.write(_encoded(row))
        self._rows -= len(rows)


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


def _encoded(row: np.ndarray) -> bytes:
    """One row in the tool's own float32 arithmetic, so that the same logits give the same bytes."""
    logits = np.asarray(row, np.float32)
    best = logits.max()
    least = np.maximum(logits.min(), best - np.float32(DEPTH))
    log_sum = np.float32(np.log(np.exp(logits - best).sum(dtype=np.float64)))
    scale = (best - least) / np.float32(65535)
    steps = np.rint((np.maximum(logits, least) - least) * (np.float32(1) / scale)) if scale > 0 else np.zeros(len(logits))
    coded = np.zeros(_width(len(logits)), "<u2")
    coded[:4] = np.array([scale, least - best - log_sum], "<f4").view("<u2")
    coded[4 : 4 + len(logits)] = np.minimum(steps, 65535)
    return coded.tobytes()
