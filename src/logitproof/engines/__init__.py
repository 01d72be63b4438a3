"""Engines: things that turn token ids into logits.

To add one, put a file here (or in a package of yours, under the entry-point group
`logitproof.engines`). The file's name is the engine's name; the one subclass of `Engine` in it is the
engine; its dataclass fields are its options; its docstring is its help. Only the engine's own worker
process ever imports the file, so a heavy import stands honestly at its top.

    @dataclass
    class Mine(Engine):
        "My engine."
        threads: int = 1

        def hello(self):                      return Hello(versions={"mine": "1.0"}, modes=("prefill",))
        def load(self, model, config=None):   ...; return Loaded(vocab_size=32000)
        def score(self, token_ids, mode):     return Scored(logits)     # float32 [T, V]

An engine that computes in pieces also has `score_rows`, which writes each piece when it is there; one that is faster with many
sequences at once has `score_many`. Without them both rest on `score`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from logitproof.errors import Refusal
from logitproof.protocol.messages import Machine
from logitproof.protocol.sampler import Sampling
from logitproof.protocol.sink import RowSink
from logitproof.rows.top import best

Mode = Literal["prefill", "decode"]
Finish = Literal["length", "stop"]


@dataclass(frozen=True)
class Hello:
    """What an engine is and can do, before any weights are loaded.

    `versions` names every library and build that can change a logit; `isa` is evidence of the
    instruction set (what the library itself says), not a wish. `machine` is said by an engine that computes
    elsewhere than in its own process; without it, it is the machine of the process.
    """

    versions: dict[str, str]
    modes: tuple[Mode, ...] = ("prefill", "decode")
    generate: bool = True
    tokenize: bool = True
    sample: bool = False
    taps: tuple[str, ...] = ()
    isa: dict[str, str] = field(default_factory=dict)
    machine: Machine | None = None


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to score. `details` is recorded in the trace: types, sizes, choices made."""

    vocab_size: int
    context_length: int | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Teacher-forced logits: `logits[t]` predicts token t+1; float32 (or float64), shape [T, V].

    An engine that gives the best K entries of a row and no more puts `toprows.top_rows(ids, log_probabilities)`
    there; what needs whole rows is then bounded or not measured. One that holds some rows only gives [N, V] and their N
    `positions`, which rise; the others are then not measured.
    """

    logits: np.ndarray
    isa: dict[str, str] = field(default_factory=dict)
    positions: list[int] | None = None


@dataclass(frozen=True)
class Generated:
    """A free-running continuation: the new ids [N] and the logits each was chosen from, [N, V] or `top_rows`."""

    token_ids: list[int]
    logits: np.ndarray
    finish: Finish
    isa: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """One sequence of a request for many, and where its rows go."""

    token_ids: Sequence[int]
    rows: RowSink


@dataclass(frozen=True)
class Answered:
    """The sequence with this index is done: its rows are written, or `error` says why not."""

    index: int
    isa: Mapping[str, str] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(frozen=True)
class Working:
    """No sequence is done yet, and the engine is at work: restarts the time limit."""

    at: str


class Engine:
    """One inference engine inside its own worker process. Subclasses are dataclasses of options.

    `instruction_sets` says how each is chosen and what proves it, by the fields of `isa.Pin`. `arithmetic`
    says how it rounds, for calculated bands: see `arithmetic.arithmetic_of`. Both are read without import.
    """

    instruction_sets: ClassVar[dict[str, dict[str, Any]]] = {}
    arithmetic: ClassVar[dict[str, Any]] = {}

    def hello(self) -> Hello:
        """Say what this engine is, without loading weights."""
        raise NotImplementedError

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Make the weights at `model` (a file or folder) ready.

        `config` is the HF folder of the unquantized model where the contract names one: its config and
        tokenizer, for files that do not carry all of it themselves.
        """
        raise NotImplementedError

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Logits at every position of `token_ids`: in one pass (prefill) or through the cache (decode)."""
        raise NotImplementedError

    def score_rows(self, token_ids: Sequence[int], mode: Mode, rows: RowSink) -> Mapping[str, str]:
        """What `score` gives, written as it comes; returns the evidence of the instruction set.

        The default writes the array of `score`. An engine that computes in pieces writes each when it has it, so that no more
        than a piece is in memory. Rows before `rows.first` are dropped; one that need not compute them says `rows.skip`.
        """
        scored = self.score(token_ids, mode)
        if scored.positions is None:
            rows.write(scored.logits)
        else:
            rows.scatter(scored.logits, scored.positions, len(token_ids))
        return scored.isa

    def score_many(self, asked: Sequence[Asked], mode: Mode) -> Iterator[Answered | Working]:
        """Score several sequences, each from an empty cache, and say of each when it is done, in any order.

        The default takes one after another. An engine that takes all of them through one layer before the next overrides it.
        """
        for index, sequence in enumerate(asked):
            try:
                yield Answered(index, self.score_rows(sequence.token_ids, mode, sequence.rows))
            except Exception as error:
                yield Answered(index, error=error)

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """Continue greedily through the cache, ending after `max_new_tokens` or with a token of `stop`.

        The default takes the argmax of `score`, one token after another: right, and slow.
        """
        ids, finish = list(token_ids), "length"
        rows: list[np.ndarray] = []
        while len(rows) < max_new_tokens and finish == "length":
            row = self.score(ids, "prefill").logits[-1]
            rows.append(row)
            ids.append(best(row))
            finish = "stop" if ids[-1] in stop else "length"
        logits = np.stack(rows) if rows else np.empty((0, 0), np.float32)
        return Generated(ids[len(token_ids) :], logits, finish)  # type: ignore[arg-type]

    def sample(
        self, token_ids: Sequence[int], count: int, max_new_tokens: int, stop: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        """Draw `count` continuations with the engine's own sampler, or say that it has none."""
        raise Refusal("this engine does not sample", remedy="its hello must not offer `sample`")

    def taps(
        self, token_ids: Sequence[int], mode: Mode, names: Sequence[str], given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Intermediate tensors of one pass by their canonical names (`logitproof.protocol.taps`), float32.

        `names` are patterns. Where a tap is in `given`, its own value is returned and the given one flows on.
        """
        raise Refusal("this engine has no taps", remedy="its hello must not offer `taps`")

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` as this engine would feed them to the model, special tokens included."""
        raise Refusal("this engine has no tokenizer", remedy="give token_ids in the suite")

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`; bytes that are not UTF-8 become U+FFFD."""
        raise Refusal("this engine has no tokenizer")

    def replace_process(self) -> tuple[list[str], dict[str, str]] | None:
        """argv and environment of a program that speaks the protocol itself and takes this one's place."""
        return None
