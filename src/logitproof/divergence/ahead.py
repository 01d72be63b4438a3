"""The rows of several sides, window by window: while some are scored, the engines are at the next."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from threading import Semaphore
from types import TracebackType

import numpy as np

from logitproof.divergence.sides import Base, by_weights
from logitproof.divergence.windows import Windows
from logitproof.jobs.spec import Side

WINDOWS = 2
"""Of every side, windows whose rows there are at most: one that is scored, and the next."""


def shared(sides: list[Side], names: list[str], threads: int) -> tuple[list[Side], int]:
    """The sides with their share of the threads, and how many of them compute at once.

    Two engines with one thread each need less of two cores than one with two, whose threads wait for one another at every
    operation. It changes no logit: a row of a matrix product is one thread's work. Where an option says otherwise, or another
    engine takes what cores it likes, the sides take turns.
    """
    at_once = min(len(sides), threads)
    own = all(by_weights(name) and side.spec.engine == "llamacpp" for name, side in zip(names, sides, strict=True))
    if at_once < 2 or not own:
        return sides, 1
    options = {"threads": threads // at_once}
    return [replace(side, spec=replace(side.spec, options=options)) for side in sides], at_once


class Ahead(AbstractContextManager["Ahead"]):
    """One side of a text. Use as a context manager; `turns` are shared by all that may not compute at once."""

    def __init__(self, side: Base, windows: Windows, turns: Semaphore) -> None:
        self.side, self.windows = side, windows
        self._turns = turns
        self._pool = ThreadPoolExecutor(1)
        self._coming: Future[np.ndarray] = self._begin(0)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # an engine is asked one thing at a time, and will be asked to close
        self._pool.shutdown(cancel_futures=True)

    def rows(self, index: int) -> np.ndarray:
        """Rows [n, V] of the next window, `index`; raises what its engine raises. The one behind it is begun."""
        rows = self._coming.result()
        if index + 1 < len(self.windows):
            self._coming = self._begin(index + 1)
        return rows

    def _begin(self, index: int) -> Future[np.ndarray]:
        return self._pool.submit(self._step, index)

    def _step(self, index: int) -> np.ndarray:
        with self._turns:
            return self.side.step(self.windows, index)
