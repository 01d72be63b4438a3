"""One engine under test: its process, started again when it died, and the rows of logits it gave, however broken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from logitproof.conformance.rows import Rows, read_rows
from logitproof.conformance.wire import Answer, Noted, Wire
from logitproof.errors import ContractError, EngineDied, EngineError
from logitproof.files.worded import in_words
from logitproof.jobs.spec import Side, Spec
from logitproof.protocol import messages as protocol
from logitproof.weights.model import files_of

PRIME = 7919
"""A step through the vocabulary: the tokens of a test are spread over it, and none stands twice in a small one."""
TOKENS = 7
LARGEST = 1 << 33
"""Bytes of rows that are read: a thousand positions of the largest vocabulary have a tenth of it."""
CUT = 256 * 2**20
"""Bytes of a large file that are copied to see what a truncated one gives."""

NOT_LOADED = "a model that is loaded comes first: see `load` in docs/protocol.md"
NOTHING_SEEN = "nothing of this rule was seen: look first at why no answer came"
NO_ROWS = "mend first what `score` comes to: without rows nothing can be said of them"


class Broken(Exception):
    """A rule is not kept: what was sent and what came back, with a `remedy` where that shows another than the rule's."""

    def __init__(self, text: str, *, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(text)


class NotOffered(Exception):
    """The engine does not offer what a rule speaks of."""


class Session:
    """The engine under test. A process that died or fell silent is replaced before the next rule."""

    def __init__(self, spec: Spec, side: Side, scratch: Path) -> None:
        self.spec, self.side, self.scratch = spec, side, scratch
        self.noted = Noted()
        self.hello_answer: dict[str, Any] = {}
        self.load_answer: Answer | None = None
        self._wire: Wire | None = None
        self._baseline: Rows | None = None
        self._is_loaded = False
        self._files = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._wire is not None:
            self._wire.end()

    def open(self) -> None:
        """Start the engine and keep what it says of itself; raises what a harness would where it says nothing."""
        answer = self.wire.ask("hello", self.hello_params)
        if answer.silence:
            words = "".join(f"\n    {line}" for line in self.noted.ended)
            text = f"hello: {answer.silence}{words}"
            raise EngineDied(text, where=self.side.name, remedy="start its program by hand and look")
        if answer.error is not None:
            kind = ContractError if answer.kind == "refused" else EngineError
            remedy = str(answer.error.get("remedy") or f"`logitproof list engines` shows the options of {self.spec.engine}")
            raise kind(f"hello: {answer}", where=self.side.name, remedy=remedy)
        self.hello_answer = answer.result or {}

    @property
    def hello_params(self) -> dict[str, Any]:
        return {"protocol": protocol.VERSION, "options": self.spec.options.get("options", {})}

    @property
    def wire(self) -> Wire:
        """The running process, a fresh one if the last one is gone."""
        if self._wire is None or not self._wire.alive:
            if self._wire is not None:
                self._wire.end()
            self._wire, self._is_loaded = Wire(self.spec, name=self.side.name, noted=self.noted), False
        return self._wire

    def fresh(self) -> Wire:
        """A process that was asked nothing yet, in place of the one that ran."""
        if self._wire is not None:
            self._wire.end()
        return self.wire

    def offers(self, what: str) -> bool:
        return bool(self.hello_answer.get(what))

    @property
    def modes(self) -> list[str]:
        modes = self.hello_answer.get("modes", ["prefill", "decode"])
        return [mode for mode in modes if mode in ("prefill", "decode")] if isinstance(modes, list) else []

    def ask(self, method: str, params: dict[str, Any]) -> Answer:
        """A request; a process that gives no answer to it is not asked again."""
        wire = self.wire
        answer = wire.ask(method, params)
        if answer.silence:
            wire.end()
        return answer

    def load(self) -> protocol.LoadResult:
        """The engine with its weights ready; raises Broken where they cannot be made so."""
        wire = self.wire
        if not self._is_loaded:
            config = str(self.side.config) if self.side.config else None
            self.load_answer = self.ask("load", {"model": str(self.side.model), "config": config})
            self._is_loaded = self.load_answer.result is not None and wire.alive
        assert self.load_answer is not None
        if self.load_answer.result is None:
            raise Broken(f"load {self.side.model.name} → {self.load_answer}", remedy=NOT_LOADED)
        fields = self.load_answer.result
        try:
            # Fields too many are a fault of the rule `load` alone.
            return protocol.LoadResult.received(
                {key: fields[key] for key in fields.keys() & protocol.LoadResult.model_fields}
            )
        except ValidationError as error:
            text = f"load {self.side.model.name} → {self.load_answer} ({in_words(error)})"
            raise Broken(text, remedy=NOT_LOADED) from None

    def forget_model(self) -> None:
        """What was loaded may not be ready any more: the next rule that needs it loads it again."""
        self._is_loaded = False

    def ids(self, count: int, begin: int = 1) -> list[int]:
        """Token ids all over the vocabulary."""
        size = self.load().vocab_size
        return [(begin + n * PRIME) % size for n in range(count)]

    def target(self, name: str = "logits") -> Path:
        """A file that does not exist yet."""
        self._files += 1
        return self.scratch / f"{name}-{self._files}.bin"

    def score(self, token_ids: Sequence[int], mode: str | None = None, target: Path | None = None, first: int = 0) -> Rows:
        """Rows for token ids, from position `first` on; raises Broken where none were given."""
        self.load()
        asked = target or self.target()
        mode = mode or (self.modes or ["prefill"])[0]
        tail = {"first": first} if first else {}
        answer = self.ask("score", {"token_ids": list(token_ids), "mode": mode, "logits": str(asked), **tail})
        return self._rows(f"score of {len(token_ids)} tokens in {mode}", answer, asked, protocol.ScoreResult)

    def score_many(self, sequences: Sequence[Sequence[int]]) -> tuple[dict[int, Rows], dict[int, str]]:
        """Rows of several sequences by one request, and kinds of errors, by index; Broken where one is not answered once.

        Raises NotOffered where the engine does not take several.
        """
        if not self.offers("batch"):
            raise NotOffered("hello does not offer `batch`")
        self.load()
        targets = [self.target() for _ in sequences]
        asked = [{"token_ids": list(ids), "logits": str(path)} for ids, path in zip(sequences, targets, strict=True)]
        answer = self.ask("score_many", {"sequences": asked, "mode": (self.modes or ["prefill"])[0]})
        what = f"score_many of {len(sequences)} sequences"
        rows: dict[int, Rows] = {}
        errors: dict[int, str] = {}
        for content in answer.parts:
            part = self._part(what, content)
            if part.index in rows or part.index in errors or part.index >= len(sequences):
                raise Broken(f"{what} → sequence {part.index} is answered twice, or was not asked")
            if part.result is not None:
                rows[part.index] = self._read(what, part.result, targets[part.index])
            else:
                errors[part.index] = part.error.kind if part.error else ""
        if answer.result is None:
            raise Broken(f"{what} → {answer}")
        if missing := sorted(set(range(len(sequences))) - rows.keys() - errors.keys()):
            raise Broken(f"{what} → {answer}, and no part for sequence {missing[0]}")
        return rows, errors

    def _part(self, what: str, content: dict[str, Any]) -> protocol.Part:
        try:
            return protocol.Part.received(content)
        except ValidationError as error:
            raise Broken(f"{what} → part {content} ({in_words(error)})") from None

    def baseline(self) -> Rows:
        """The first rows that the engine gave, before anything else could have touched its state."""
        if self._baseline is None:
            self._baseline = self.score(self.ids(TOKENS))
        return self._baseline

    def generate(self, token_ids: Sequence[int], most: int, stop: Sequence[int] = ()) -> Rows:
        """A greedy continuation; raises Broken where none was given, NotOffered where there is none."""
        if not self.offers("generate"):
            raise NotOffered("hello does not offer `generate`")
        self.load()
        asked = self.target()
        params = {"token_ids": list(token_ids), "max_new_tokens": most, "stop": list(stop), "logits": str(asked)}
        what = f"generate of {most} tokens after {len(token_ids)}{f' until {list(stop)}' if stop else ''}"
        return self._rows(what, self.ask("generate", params), asked, protocol.GenerateResult)

    def _rows(self, what: str, answer: Answer, asked: Path, kind: type[protocol.Rows]) -> Rows:
        if answer.result is None:
            # that rows come at all is what this engine has to mend first
            remedy = NO_ROWS if self._baseline is None else NOTHING_SEEN if answer.silence else ""
            raise Broken(f"{what} → {answer}", remedy=remedy)
        try:
            rows = kind.received(answer.result)
        except ValidationError as error:
            raise Broken(f"{what} → {answer} ({in_words(error)})", remedy=NO_ROWS if self._baseline is None else "") from None
        return self._read(what, rows, asked)

    def _read(self, what: str, rows: protocol.Rows, asked: Path) -> Rows:
        """The rows of an answer; Broken where nobody could read a table of that shape."""
        for tensor in (rows.whole, rows.topk_ids, rows.topk_logprobs):
            if tensor is not None and (len(tensor.shape) != 2 or min(tensor.shape) < 0 or not 0 <= tensor.size <= LARGEST):
                raise Broken(f"{what} → rows of shape {list(tensor.shape)}, (positions, vocabulary) is asked for")
        return read_rows(rows, asked)


def truncated(model: Path, folder: Path) -> Path:
    """A copy of the weights whose largest file lacks its last eighth, and all after 256 MiB."""
    folder.mkdir(exist_ok=True)
    copy = folder / model.name
    largest, target = model, copy
    if model.is_dir():
        files = files_of(model)
        largest = max(files, key=lambda file: file.stat().st_size)
        for file in files:
            place = copy / file.relative_to(model)
            place.parent.mkdir(parents=True, exist_ok=True)
            if file == largest:
                target = place
            else:
                place.symlink_to(file.resolve())
    with open(largest, "rb") as source, open(target, "wb") as made:
        made.write(source.read(min(largest.stat().st_size * 7 // 8, CUT)))
    return copy
