"""The engine `toy`: a deterministic language model in NumPy, for tests of the harness itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from logitproof.engines import Engine, Hello, Loaded, Mode, Scored
from logitproof.errors import ContractError, Refusal
from logitproof.files.causes import cause_of
from logitproof.files.untrusted import read_object
from logitproof.protocol.sink import RowSink

WIDTH = 16
Fault = Literal[
    "crash-at-load",
    "crash",
    "hang",
    "garbage",
    "nan",
    "inf",
    "wrong-vocab",
    "short",
    "off-by-one",
    "fed-twice",
    "raise",
    "exit-0",
    "slow",
]


@dataclass
class Toy(Engine):
    """A deterministic byte-level toy in NumPy, for tests of the harness; it can fail on purpose.

    The model is a JSON file `{"vocab_size": V, "seed": s}`. `noise` adds seeded Gaussian noise to every
    logit, `decode_noise` to those of decode only, `shift` and `scale` act on all. From the `fault_at`-th
    request for logits on, `fault` happens.
    """

    noise: float = 0.0
    decode_noise: float = 0.0
    seed: int = 0
    shift: float = 0.0
    scale: float = 1.0
    fault: Fault | None = None
    fault_at: int = 0
    _requests: int = field(default=0, init=False)
    _embedding: Any = field(default=None, init=False)
    _head: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise Refusal(f"{self.seed} is less than 0", field="seed")

    def hello(self) -> Hello:
        return Hello(versions={"toy": "2", "numpy": np.__version__}, isa={"kernels": "numpy"})

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        if self.fault == "crash-at-load":
            os.abort()
        vocab_size, seed = _read(model)
        weights = _weights(seed, 2 * vocab_size * WIDTH)
        self._embedding = weights[: vocab_size * WIDTH].reshape(vocab_size, WIDTH)
        self._head = weights[vocab_size * WIDTH :].reshape(WIDTH, vocab_size)
        return Loaded(vocab_size, context_length=4096, eos_token_ids=(0,), details={"width": WIDTH})

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        return Scored(np.concatenate(list(self._scored(token_ids, mode))))

    def score_rows(self, token_ids: Sequence[int], mode: Mode, rows: RowSink) -> Mapping[str, str]:
        for block in self._scored(token_ids, mode):
            rows.write(block)
        return {}

    def tokenize(self, text: str) -> list[int]:
        return [1 + byte for byte in text.encode()]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return bytes(token - 1 for token in token_ids if 1 <= token <= 256).decode("utf-8", "replace")

    def _scored(self, token_ids: Sequence[int], mode: Mode) -> Iterator[np.ndarray]:
        """Float32 [1, V] at a time, or what the fault makes of it."""
        begun = self._requests >= self.fault_at
        self._requests += 1
        fault = self.fault if begun else None
        if fault is not None:
            _fail(fault)
        ids = list(token_ids)
        if self._embedding is None or not all(0 <= token < len(self._embedding) for token in ids):
            raise Refusal("a token id is outside the vocabulary, or no model is loaded", field="token_ids")
        if not ids:
            raise Refusal("there is nothing to score", field="token_ids")
        if fault == "off-by-one":
            ids = [ids[0], *ids[:-1]]
        if fault == "fed-twice":
            ids = [*ids[:-1], ids[-1], ids[-1]]
        last = len(ids) - 1
        for position, row in enumerate(self._rows(ids, self.noise + (self.decode_noise if mode == "decode" else 0.0))):
            # of a token that was fed twice the second row is given, so that there are as many as token ids
            if fault == "fed-twice" and position == last - 1:
                continue
            damaged = _damage(row[None], fault if position == last else "wrong-vocab" if fault == "wrong-vocab" else None)
            yield damaged.astype(np.float32)

    def _rows(self, ids: list[int], noise: float) -> Iterator[np.ndarray]:
        """[V] for each token: a decaying sum of embeddings through tanh, so that every token before t matters at t."""
        state = np.zeros(WIDTH)
        random = np.random.default_rng([self.seed, len(ids), *ids[:64]])
        for token in ids:
            state = np.tanh(0.6 * state + self._embedding[token])
            row = state @ self._head
            if noise:
                row = row + noise * random.normal(size=row.shape)
            yield self.scale * row + self.shift


def _weights(seed: int, count: int) -> np.ndarray:
    """Uniform weights of variance 1 that ten lines of any language make again: an integer hash of their number.

    The hash is C. Wellons' lowbias32. `clients/` compute the same model.
    """
    return (_mix(_mix(np.array([seed])) + np.arange(count)) / 2**32 - 0.5) * np.sqrt(12)


def _mix(numbers: np.ndarray) -> np.ndarray:
    x = numbers.astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def _read(model: Path) -> tuple[int, int]:
    try:
        record = read_object(model, limit=1 << 20)
        vocab_size, seed = int(record["vocab_size"]), int(record["seed"])
    except (ContractError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise Refusal(
            f"{model} is no toy model: {cause_of(error)}", field="model", remedy='give {"vocab_size": 300, "seed": 1}'
        ) from None
    if vocab_size < 257:
        raise Refusal(f"vocab_size is {vocab_size}", field="model", remedy="bytes need at least 257 entries")
    return vocab_size, seed


def _fail(fault: Fault) -> None:
    if fault == "crash":
        os.abort()
    if fault == "exit-0":
        os._exit(0)
    if fault == "hang":
        time.sleep(3600)
    if fault == "slow":
        time.sleep(0.5)
    if fault == "raise":
        raise RuntimeError("the toy was told to fail")
    if fault == "garbage":
        _write_garbage()


def _write_garbage() -> None:
    """Write to the protocol's own pipe, which serve.py has moved away from stdout."""
    pipes = [int(name) for name in os.listdir("/proc/self/fd") if _is_pipe(name) and int(name) > 2]
    protocol = min(pipes, default=1)
    os.write(protocol, b"llama_model_load: this is not JSON\n")


def _is_pipe(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")
    except OSError:
        return False


def _damage(logits: np.ndarray, fault: Fault | None) -> np.ndarray:
    if fault == "nan":
        logits[-1, 3] = np.nan
    if fault == "inf":
        logits[-1, 3] = np.inf
    if fault == "wrong-vocab":
        return logits[:, :-1]
    if fault == "short":
        return logits[:-1]
    return logits
