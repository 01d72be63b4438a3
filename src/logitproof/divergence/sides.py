"""One side of a divergence: an engine that is kept alive, or a base file that llama-perplexity wrote."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from logitproof.divergence.scores import Scores, of_kept, of_logits
from logitproof.divergence.windows import Windows
from logitproof.errors import ContractError
from logitproof.jobs.address import parse_address
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Side, Spec
from logitproof.protocol.messages import WHOLE, LoadResult
from logitproof.readers.llamacpp_kl_base import MAGIC, LlamacppKlBase
from logitproof.rows.top import is_top
from logitproof.traces.dump import Dump
from logitproof.weights.hub import absolute, commit_of, located
from logitproof.weights.hub_id import at_commit, hub_id
from logitproof.weights.model import is_gguf

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 looked at, and used only where it has room
SPARE = 4
"""Times that the rows of a window must fit into memory before they go there instead of to the disk."""


class Base(Protocol):
    """What candidates are compared with, window by window."""

    @property
    def name(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    def step(self, windows: Windows, index: int) -> np.ndarray:
        """Rows [n, V] of a window that count."""
        ...

    def scores(self, base: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> Scores:
        """The scores of a candidate's rows against rows of this."""
        ...


class EngineSide:
    """An engine with its weights loaded; every window is scored into one file, which the next one overwrites."""

    def __init__(self, session: Session, side: Side, folder: Path) -> None:
        self.session, self.side = session, side
        self._folder = folder
        self.facts: LoadResult = session.loaded(side.model, side.config)[1]
        if "prefill" not in session.hello().modes:
            raise ContractError("the engine does not offer prefill", where=side.name, remedy="choose an engine that does")

    @property
    def name(self) -> str:
        return self.side.name

    @property
    def vocab_size(self) -> int:
        return self.facts.vocab_size

    def tokenize(self, text: str) -> list[int] | None:
        """The text as the engine would feed it, None of an engine without a tokenizer."""
        worker, _ = self.session.loaded(self.side.model, self.side.config)
        return worker.tokenize(text) if self.session.hello().tokenize else None

    def step(self, windows: Windows, index: int) -> np.ndarray:
        """Logits [n, V] of the rows of a window that count, mapped; they are gone when the next window is scored."""
        worker, _ = self.session.loaded(self.side.model, self.side.config)
        fed, path = windows.fed(index), self._folder / "rows"
        first = windows.first if self.session.hello().tail else 0
        path.unlink(missing_ok=True)  # rows of the last window may still be mapped, and must not change under their reader
        rows = worker.score(fed, "prefill", path, first).open()
        if is_top(rows):
            raise ContractError(
                "gives the best entries of a row only, whole rows are needed here", where=self.name, remedy=WHOLE
            )
        return np.asarray(rows[windows.first - first : -1])

    def scores(self, base: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> Scores:
        return of_logits(base, candidate, labels)


@dataclass(frozen=True)
class FileSide:
    """A base file: its windows are those of the text that its writer was given."""

    path: Path
    dump: Dump

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def vocab_size(self) -> int:
        return int(self.dump.vocab_size or 0)

    def windows(self, most: int | None, bos: int | None) -> Windows:
        """The windows of the file; raises ContractError for a token that is none."""
        token_ids = np.array([prompt.token_ids for prompt in self.dump.prompts[:most]], np.int64)
        if token_ids.min() < 0 or token_ids.max() >= self.vocab_size:
            text = f"holds token ids from {token_ids.min()} to {token_ids.max()}, for a vocabulary of {self.vocab_size}"
            raise ContractError(text, where=f"{self.path}: tokens", remedy="make the file again")
        return Windows(token_ids, bos)

    def step(self, windows: Windows, index: int) -> np.ndarray:
        """Log-probabilities [n, V] of a window as the file holds them."""
        rows = self.dump.prompts[index].logits
        assert rows is not None
        return rows[0 : windows.rows]

    def scores(self, base: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> Scores:
        return of_kept(base, candidate, labels)


def parse_side(text: str, threads: int, *, where: str) -> Side:
    """`ENGINE:MODEL?option=value`, or weights alone: a GGUF file for llama.cpp (with `threads`), a folder for transformers."""
    if not by_weights(text):
        return parse_address(text, where=where)
    path = located(text, where=where)
    spec = Spec("llamacpp", {"threads": threads}) if is_gguf(path) else Spec("transformers")
    return Side(spec, absolute(path), None, at_commit(text, commit_of(path)))


def by_weights(text: str) -> bool:
    """Whether a side is named by its weights alone, and not as ENGINE:MODEL."""
    return hub_id(text) is not None or Path(text).exists()


def base_file(text: str) -> FileSide | None:
    """The base file of this name; None of anything else."""
    path = Path(text)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
    return FileSide(path, LlamacppKlBase().read(path))


def scratch(windows_bytes: int) -> tempfile.TemporaryDirectory[str]:
    """A folder for the rows of one window of every side: in memory where that has room for them several times, or on disk."""
    try:
        room = os.statvfs(SHARED_MEMORY)
        fits = os.access(SHARED_MEMORY, os.W_OK) and room.f_bavail * room.f_frsize > SPARE * windows_bytes
    except OSError:
        fits = False
    return tempfile.TemporaryDirectory(prefix="logitproof-kl-", dir=SHARED_MEMORY if fits else None)


def begins_with(sides: Sequence[EngineSide]) -> int | None:
    """The token that windows begin with, by the first engine that has a tokenizer: the BOS, where it adds one to a text."""
    for side in sides:
        ids, bos = side.tokenize("a"), side.facts.bos_token_id
        if ids:
            return bos if ids[0] == bos and len(ids) > 1 else None
    return None
