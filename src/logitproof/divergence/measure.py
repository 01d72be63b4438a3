"""A base and its candidates stepped through a text together, window by window; nothing is kept but scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore

import numpy as np

from logitproof.comparison.compare import prepare
from logitproof.divergence.ahead import WINDOWS, Ahead, shared
from logitproof.divergence.scores import Scores
from logitproof.divergence.sides import Base, EngineSide, FileSide, base_file, begins_with, parse_side, scratch
from logitproof.divergence.statistics import Figure, figures
from logitproof.divergence.windows import Windows, cut
from logitproof.errors import ContractError, LogitproofError
from logitproof.gguf.vocabulary import vocabulary_size
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Side
from logitproof.readers.llamacpp_kl_base import KlBaseWriter
from logitproof.weights.model import files_of, open_model

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What to measure: the text, the tokens of a window, how many windows at most, and a base file to write."""

    text: str | None = None
    context: int = 512
    windows: int | None = None
    save: Path | None = None
    threads: int = 1
    seed: int = 0


@dataclass
class Measured:
    """One candidate: its figures, or the failure that stands in their place, and how its text was cut."""

    name: str
    sha256: str
    bytes: int
    figures: dict[str, Figure] = field(default_factory=dict)
    failure: str = ""
    exit_code: int = 0
    scores: list[Scores] = field(default_factory=list, repr=False)
    retokenized: bool = False
    """Whether its own tokenizer cuts the text otherwise than the base's; it is scored on the base's tokens all the same."""


@dataclass(frozen=True)
class Divergence:
    """What `kl` answers."""

    base: str
    base_sha256: str
    context: int
    windows: int
    positions: int
    bos: int | None
    vocabulary: int
    candidates: tuple[Measured, ...]

    @property
    def exit_code(self) -> int:
        """0, or that of the first candidate that failed."""
        return next((candidate.exit_code for candidate in self.candidates if candidate.exit_code), 0)


def measure(base: str, candidates: Sequence[str], asked: Asked, tell: Tell = lambda line: None) -> Divergence:
    """The figures of every candidate. `base` and `candidates` are weights or ENGINE:MODEL; `base` may be a base file.

    A candidate that fails is told in its place, and the others go on. Raises where the base fails or nothing can be asked.
    """
    file = base_file(base)
    names = [*([] if file else [base]), *candidates]
    places = [*([] if file else ["BASE"]), *["CANDIDATE"] * len(candidates)]
    every = [parse_side(name, asked.threads, where=place) for name, place in zip(names, places, strict=True)]
    every, at_once = shared(every, names, asked.threads)
    first, sides = (every[:0], every) if file else (every[:1], every[1:])
    _refuse(file, first, sides, asked)
    with ExitStack() as stack:
        room = stack.enter_context(scratch(_bytes(file, first, sides, asked.context)))
        sessions = [stack.enter_context(Session(side.spec, side.name)) for side in (*first, *sides)]
        pool = stack.enter_context(ThreadPoolExecutor(len(sides) + 2))  # left first, so that no engine is ended while it loads
        hashed = [pool.submit(lambda side=side: open_model(side.model)) for side in (*first, *sides)]  # type: ignore[misc]
        opened = [
            pool.submit(_opened, session, side, Path(room), number)
            for number, (session, side) in enumerate(zip(sessions, (*first, *sides), strict=True))
        ]
        if file is None:
            prepare()
        models = [future.result() for future in hashed]
        measured = [
            Measured(side.name, model.sha256, _size(side.model))
            for side, model in zip(sides, models[len(first) :], strict=True)
        ]
        source: Base = file or opened[0].result()
        run = _Run(source, measured, opened[len(first) :], asked, tell, at_once)
        windows = run.step()
        list(pool.map(Session.close, sessions))  # together: each waits for its process
    for candidate in measured:
        candidate.figures = figures(candidate.scores, asked.seed) if candidate.scores and not candidate.failure else {}
    positions = len(windows) * windows.rows
    sha256 = models[0].sha256 if first else ""
    return Divergence(
        source.name, sha256, windows.context, len(windows), positions, windows.bos, source.vocab_size, tuple(measured)
    )  # fmt: skip


class _Run:
    """All sides, window by window."""

    def __init__(
        self,
        base: Base,
        measured: list[Measured],
        opened: Sequence[Future[EngineSide]],
        asked: Asked,
        tell: Tell,
        at_once: int,
    ) -> None:
        self.base, self.asked, self.tell = base, asked, tell
        self._turns = Semaphore(at_once)
        self.alive: list[tuple[Measured, EngineSide]] = []
        for candidate, future in zip(measured, opened, strict=True):
            try:
                self.alive.append((candidate, self._alike(future.result())))
            except LogitproofError as error:
                _fail(candidate, error)

    def step(self) -> Windows:
        """Score every window on every side; raises what the base raises."""
        windows = self._windows()
        with ExitStack() as stack:
            writer = None
            if self.asked.save is not None:
                writer = stack.enter_context(KlBaseWriter(self.asked.save, windows.token_ids, self.base.vocab_size))
            base = stack.enter_context(Ahead(self.base, windows, self._turns))
            coming = {id(side): stack.enter_context(Ahead(side, windows, self._turns)) for _, side in self.alive}
            for index in range(len(windows)):
                rows = base.rows(index)
                if writer is not None:
                    writer.write(rows)
                for candidate, side in list(self.alive):
                    self._score(candidate, side, coming[id(side)], rows, index)
                self.tell(self._line(index, len(windows)))
        return windows

    def _score(self, candidate: Measured, side: EngineSide, coming: Ahead, base: np.ndarray, index: int) -> None:
        try:
            scores = self.base.scores(base, coming.rows(index), coming.windows.labels(index))
            candidate.scores.append(scores)
        except LogitproofError as error:
            self.alive.remove((candidate, side))
            _fail(candidate, error)

    def _windows(self) -> Windows:
        engines = [side for _, side in self.alive]
        if isinstance(self.base, FileSide):
            return self.base.windows(self.asked.windows, begins_with(engines))
        assert isinstance(self.base, EngineSide) and self.asked.text is not None
        token_ids = self.base.tokenize(self.asked.text)
        if token_ids is None:
            remedy = "give a base with a tokenizer, or a base file"
            raise ContractError("the base has no tokenizer to cut the text with", where=self.base.name, remedy=remedy)
        for candidate, side in self.alive:
            own = side.tokenize(self.asked.text)
            candidate.retokenized = own is not None and own != token_ids
        return cut(token_ids, self.asked.context, self.asked.windows, begins_with([self.base]))

    def _alike(self, side: EngineSide) -> EngineSide:
        if side.vocab_size != self.base.vocab_size:
            text = f"has a vocabulary of {side.vocab_size}, the base one of {self.base.vocab_size}"
            raise ContractError(text, where=side.name, remedy="compare files of one model")
        return side

    def _line(self, index: int, total: int) -> str:
        means = (
            f"{candidate.name} {np.mean([score.kl_divergence.mean() for score in candidate.scores]):.6f}"
            for candidate, _ in self.alive
        )
        return f"window {index + 1}/{total}  mean KLD  {'  '.join(means)}"


def _opened(session: Session, side: Side, room: Path, number: int) -> EngineSide:
    folder = room / str(number)
    folder.mkdir()
    return EngineSide(session, side, folder)


def _fail(candidate: Measured, error: LogitproofError) -> None:
    candidate.failure, candidate.exit_code = str(error), error.exit_code


def _refuse(file: FileSide | None, first: Sequence[Side], sides: Sequence[Side], asked: Asked) -> None:
    """What could only be measured against itself, or from nothing."""
    if file is None and asked.text is None:
        raise ContractError("there is no text to measure on", where="--text", remedy="name a text file, or a base file as BASE")
    if file is not None and (asked.text is not None or asked.save is not None):
        text = "a base file holds its own text and windows"
        raise ContractError(text, where="--text" if asked.text is not None else "--save", remedy="leave it out")
    for side in sides:
        if any((side.model, side.spec.identity()) == (base.model, base.spec.identity()) for base in first):
            remedy = "give another file, engine or option"
            raise ContractError("is the base itself, so that nothing would be compared", where=side.name, remedy=remedy)


def _bytes(file: FileSide | None, first: Sequence[Side], sides: Sequence[Side], context: int) -> int:
    """Most that the rows of two windows of every side take; what has no vocabulary to be seen counts as the largest."""
    if file is not None:
        return file.vocab_size * context * 4 * len(sides) * WINDOWS
    total = 0
    for side in (*first, *sides):
        try:
            vocabulary = vocabulary_size(side.model)
        except Exception:  # a refusal of the engine's own says it better, and later
            vocabulary = 1 << 18
        total += vocabulary * context * 4 * WINDOWS
    return total


def _size(model: Path) -> int:
    """Bytes of weights on disk."""
    return sum(path.stat().st_size for path in files_of(model) if path.is_file())
