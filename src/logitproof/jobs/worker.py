"""The harness's end of the protocol: one engine in a process of its own, asked one thing at a time.

A crash, a hang, garbage or a NaN of an engine becomes one `EngineError` here, with the engine's own
last words, and never the end of a run.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from pydantic import ValidationError

from logitproof.contract.isa import STDERR
from logitproof.errors import (
    ContractError,
    EngineDied,
    EngineError,
    EngineGarbage,
    EngineTimeout,
    EnvironmentFailed,
    LogitproofError,
)
from logitproof.files import ended
from logitproof.files.hashes import State
from logitproof.files.last_words import cause
from logitproof.files.worded import in_words
from logitproof.jobs import environments
from logitproof.jobs.answers import Answers, Untrusted, valid, valid_part
from logitproof.jobs.executed import Executed
from logitproof.jobs.process import GRACE, EngineProcess
from logitproof.jobs.shown import ENVELOPE, described, shown_bytes, stray
from logitproof.jobs.sight import Sight
from logitproof.jobs.spec import Spec
from logitproof.protocol import messages as protocol
from logitproof.protocol.machine import this_machine
from logitproof.protocol.sampler import Sampling
from logitproof.weights.model import files_of, weights_state

__all__ = ["Spec", "Worker"]
PATIENCE = 20
"""Times its time limit that an engine may take for one answer, if it reports progress."""
DETAILS_LIMIT = 1 << 16
"""Bytes of JSON that an engine may say of what it has loaded: it is recorded with every trace."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """The weights that an engine holds, and what it said of them."""

    model: Path
    config: Path | None
    facts: protocol.LoadResult
    state: Mapping[str, State]
    """of every file of the weights, before they were loaded and after"""


class Worker:
    """A running engine. Use as a context manager; requests raise `EngineError` or `ContractError`.

    >>> with Worker(Spec("toy"), name="toy") as worker:          # doctest: +SKIP
    ...     worker.hello()
    """

    def __init__(self, spec: Spec, *, name: str) -> None:
        self.spec, self.name = spec, name
        self.loaded: Loaded | None = None
        self._process = EngineProcess(spec, name=name)
        self._sight = Sight(self._process.pid, self._process.notes)
        self._count = 0
        self._request = ""
        self._broken: EngineError | None = None
        self._statements: dict[str, str] = {}
        self._end = 0.0
        self._machine: protocol.Machine | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self._broken is None and self._process.is_running

    def hello(self) -> protocol.HelloResult:
        """Capabilities, versions, ISA evidence and the machine; refuses another version of the protocol.

        The machine of an engine that does not say it is this one, which started it.
        """
        result = cast(protocol.HelloResult, self._ask("hello", {"options": self.spec.options.get("options", {})}))
        if result.protocol != protocol.VERSION:
            raise self._fail(EngineGarbage, f"speaks protocol {result.protocol}, this harness speaks {protocol.VERSION}")
        self._statements.update({f"isa.{name}": text for name, text in result.isa.items()})
        self._machine = result.machine or this_machine()
        return result.model_copy(update={"machine": self._machine})

    def load(self, model: Path, config: Path | None) -> protocol.LoadResult:
        self.loaded = None
        params = {"model": str(model), "config": str(config) if config else None}
        state = weights_state(model, config)
        result = cast(protocol.LoadResult, self._ask("load", params))
        if (size := len(json.dumps(result.details))) > DETAILS_LIMIT:
            text = f"its answer to `load` has {size} bytes of details, {DETAILS_LIMIT} are kept at most"
            raise self._fail(EngineGarbage, text, remedy="say there what changes logits, no more")
        self.loaded = Loaded(model, config, result, state)
        self.refuse_changed_weights()
        self._statements = {name: text for name, text in self._statements.items() if not name.startswith("details.")}
        for name, value in result.details.items():
            self._statements[f"details.{name}"] = value if isinstance(value, str) else json.dumps(value)
        return result

    def refuse_changed_weights(self) -> None:
        """Raise ContractError where a file of the loaded weights is not as it was before: nobody knows what was read."""
        if self.loaded is None:
            return
        before, now = self.loaded.state, weights_state(self.loaded.model, self.loaded.config)
        if changed := sorted(name for name in {*before, *now} if before.get(name) != now.get(name)):
            self.loaded = None
            text = f"the file {Path(changed[0]).name} was replaced or written to while the engine worked with it"
            raise ContractError(text, where=changed[0], remedy="let nothing write to the weights during a run")

    def executed(self) -> Executed:
        """What the engine's processes execute; unknown of one that computes on another machine, or was not asked where."""
        if self._machine != this_machine():
            return Executed(unknown="it computes elsewhere, where nobody sees what is executed")
        weights = [path for path in (self.loaded.model, self.loaded.config) if path] if self.loaded else []
        # a folder of the hub's cache holds links, and the kernel names what they lead to
        linked = [file for path in weights if path.is_dir() for file in files_of(path) if file.is_symlink()]
        return self._sight.executed([*weights, *linked])

    def tokenize(self, text: str) -> list[int]:
        return cast(protocol.TokenizeResult, self._ask("tokenize", {"text": text})).token_ids

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return cast(protocol.DetokenizeResult, self._ask("detokenize", {"token_ids": list(token_ids)})).text

    def score(self, token_ids: Sequence[int], mode: protocol.Mode, logits: Path, first: int = 0) -> protocol.ScoreResult:
        """Rows at every position of `token_ids`, written to the file `logits`, checked: shape, finite, possible.

        Of an engine whose `hello` offers `tail`, those from position `first` on may be asked for alone.
        """
        result = self.score_held(token_ids, mode, logits, first)
        if result.held is not None:
            text = f"holds {len(result.held)} of the {len(token_ids) - first} positions of these tokens"
            remedy = "every row is needed here; gates of a contract whose scope is held are judged by `check`"
            raise ContractError(text, where=self.name, remedy=remedy)
        return result

    def score_held(self, token_ids: Sequence[int], mode: protocol.Mode, logits: Path, first: int = 0) -> protocol.ScoreResult:
        """`score` of an engine that may hold some of the rows only, which its `held` then names; the others are NaN."""
        params: dict[str, Any] = {"token_ids": list(token_ids), "mode": mode, "logits": str(logits)}
        # an engine that does not know `first` must never meet it, not even as 0
        asked = params | ({"first": first} if first else {})
        return self._scored(cast(protocol.ScoreResult, self._ask("score", asked)), logits, len(token_ids) - first)

    def score_many(
        self, sequences: Sequence[tuple[Sequence[int], Path]], mode: protocol.Mode
    ) -> Generator[tuple[int, protocol.ScoreResult | LogitproofError], None, None]:
        """`score` of every sequence into its own file by one request; by index, as they are done, checked like one.

        What went wrong with one sequence stands in its place; where the engine cannot be trusted after it, it is the last.
        The last answer counts once the request has ended, so that an engine that fails at its very end owes one.
        Raises where the engine fails: what came before it counts. An engine that is left before its end is ended.
        """
        method, waiting = "score_many", dict(enumerate(sequences))
        asked = [{"token_ids": list(ids), "logits": str(path)} for ids, path in sequences]
        self._say_what_proves()
        self._send(method, {"sequences": asked, "mode": mode})
        last = None
        while (response := self._next(method)).result is None:
            part = self._trusted(valid_part, method, response.part)
            if part.index not in waiting:
                raise self._fail(EngineGarbage, f"answered sequence {part.index} of {len(sequences)}, which did not wait")
            ids, path = waiting.pop(part.index)
            judged = self._judged(part, path, len(ids))
            if not waiting and self._broken is None:
                last = part.index, judged
                continue
            try:
                yield part.index, judged
            except GeneratorExit:
                self._fail(EngineDied, "it was ended before it had answered every sequence")
                raise
            if self._broken is not None:
                return
        self._trusted(valid, method, response.result)
        if waiting:
            raise self._fail(EngineGarbage, f"ended `{method}` without an answer to sequence {min(waiting)}")
        if last is not None:
            yield last

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int], logits: Path
    ) -> protocol.GenerateResult:
        """Greedy continuation with the logits [N, V] that each new token was chosen from, checked.

        Raises EngineGarbage where a token is not the argmax of its row or the continuation ends without cause.
        """
        params = {"token_ids": list(token_ids), "max_new_tokens": max_new_tokens, "stop": list(stop), "logits": str(logits)}
        result = cast(protocol.GenerateResult, self._ask("generate", params))
        self._trusted(self._answers.end, result, max_new_tokens, stop)
        if not result.token_ids:
            return result
        result = self._trusted(self._answers.rows, result, logits, len(result.token_ids))
        self._trusted(self._answers.greedy, result)
        return result.model_copy(update={"isa": self._proven(result.isa)})

    def sample(
        self, token_ids: Sequence[int], count: int, max_new_tokens: int, stop: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        """Continuations that the engine draws itself; as many as asked for, none longer, all of its vocabulary."""
        params = {"token_ids": list(token_ids), "count": count, "max_new_tokens": max_new_tokens, "stop": list(stop)}
        drawn = cast(protocol.SampleResult, self._ask("sample", {**params, **asdict(sampling)})).token_ids
        self._trusted(self._answers.drawn, drawn, count, max_new_tokens)
        return drawn

    def taps(
        self,
        token_ids: Sequence[int],
        mode: protocol.Mode,
        names: Sequence[str],
        folder: Path,
        given: Mapping[str, protocol.Tensor] | None = None,
    ) -> dict[str, protocol.Tensor]:
        """Intermediate tensors by tap, one file each in `folder`, checked: asked for, of its size, finite.

        With taps of another engine as `given`, what each operation makes of that engine's own input.
        """
        params = {"token_ids": list(token_ids), "mode": mode, "names": list(names), "folder": str(folder)}
        asked = {**params, "given": {name: tensor.model_dump() for name, tensor in (given or {}).items()}}
        taps = cast(protocol.TapsResult, self._ask("taps", asked)).taps
        return self._trusted(self._answers.taps, taps, folder)

    def close(self) -> str:
        """End the engine: politely, then not. How it ended where it was well until then and did not end well, or nothing."""
        code = None
        if self.alive:
            try:
                self._ask("close", {}, timeout=5.0)
                code = self._process.wait(2.0)
            except EngineDied:
                code = self._process.wait(2.0)
            except LogitproofError:
                pass  # it was ended from here, and how says nothing of it
        self._process.kill()
        return f"{ended.in_words(code)}{ended.advice(code)}" if code else ""

    def last_words(self) -> str:
        """The lines of the engine's stderr that count: its first, those with which it gave up, and its last."""
        return "\n    ".join(self._process.words)

    @property
    def _deadline(self) -> float:
        """Seconds that one answer may take in all."""
        return self.spec.deadline or PATIENCE * self.spec.timeout

    # -- one request --------------------------------------------------------------------------------------

    @property
    def _answers(self) -> Answers:
        return Answers(self.name, self.loaded.facts.vocab_size if self.loaded else None)

    def _ask(self, method: str, params: dict[str, Any], *, timeout: float | None = None) -> protocol.Message:
        self._send(method, params)
        response = self._next(method, timeout)
        if response.result is None:
            raise self._fail(EngineGarbage, f"answered `{method}` with a part, which is for requests of many")
        return self._trusted(valid, method, response.result)

    def _send(self, method: str, params: dict[str, Any]) -> None:
        if self._broken is not None:
            raise self._broken
        self._count += 1
        self._end = time.monotonic() + self._deadline
        self._request = f"request {self._count}: {described(method, params)}"
        self._process.say(json.dumps({"id": self._count, "method": method, "params": params}).encode())

    def _next(self, method: str, timeout: float | None = None) -> protocol.Response:
        """The next result or part of the request that runs; raises what its error says."""
        while True:
            response = self._receive(method, timeout or self.spec.timeout)
            if response.error is not None:
                raise self._error(response.error)
            if response.result is not None or response.part is not None:
                self._end = time.monotonic() + self._deadline
                return response
            if response.progress is None:
                raise self._fail(EngineGarbage, f"answered `{method}` with neither result nor error", remedy=ENVELOPE)

    def _receive(self, method: str, timeout: float) -> protocol.Response:
        left = self._end - time.monotonic()
        try:
            line = self._process.next_line(max(min(timeout, left), 0.0))
        except queue.Empty:
            if left < timeout:
                limit = f"its deadline of {self._deadline:g} s"
                text = f"no answer to `{method}` within {limit}, whatever progress, so it was killed ({self._request})"
                remedy = "raise the engine's `deadline` if it is only slow"
                raise self._fail(EngineTimeout, text, remedy=remedy) from None
            text = f"no answer to `{method}` within {timeout:g} s, so it was killed ({self._request})"
            if unended := self._process.unended:
                text += f"; {len(unended)} bytes came without a newline behind them: {shown_bytes(unended)}"
                remedy = "end every answer with a newline, and flush"
                raise self._fail(EngineGarbage, text, remedy=remedy) from None
            raise self._fail(EngineTimeout, text, remedy="raise the engine's `timeout` if it is only slow") from None
        if line is None:
            raise self._died(method)
        try:
            response = protocol.Response.model_validate_json(line)
        except ValidationError as error:
            text, remedy = stray(line, method, in_words(error))
            raise self._fail(EngineGarbage, text, remedy=remedy) from None
        if response.id != self._count:
            remedy = "answer each request once, with its own `id`"
            raise self._fail(EngineGarbage, f"answered request {response.id}, request {self._count} was asked", remedy=remedy)
        return response

    def _judged(self, part: protocol.Part, asked: Path, count: int) -> protocol.ScoreResult | LogitproofError:
        """The checked rows of one sequence, or what is wrong with it."""
        if part.error is not None:
            return self._error(part.error)
        assert part.result is not None
        try:
            return self._scored(part.result, asked, count)
        except LogitproofError as error:
            return error

    def _scored(self, result: protocol.ScoreResult, asked: Path, count: int) -> protocol.ScoreResult:
        result = self._trusted(self._answers.rows, result, asked, count)
        return result.model_copy(update={"isa": self._proven(result.isa)})

    def _trusted(self, check: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """What a check gives; an answer that cannot be trusted ends the process."""
        try:
            return check(*arguments, **options)
        except Untrusted as error:
            raise self._fail(EngineGarbage, error.text, remedy=error.remedy) from None

    def _error(self, fault: protocol.Fault) -> LogitproofError:
        where = f"{self.name}: {fault.field}" if fault.field else self.name
        if fault.kind in ("refused", "unsupported"):
            return ContractError(fault.message, where=where, remedy=fault.remedy)
        kind = EnvironmentFailed if fault.kind == "environment" else EngineError
        return kind(fault.message, where=where, remedy=fault.remedy)

    def _proven(self, isa: Mapping[str, str]) -> dict[str, str]:
        """What the engine says of its instructions; raises ContractError where that is no proof of those asked for."""
        proof, matched = self.spec.proof, self._process.matched
        if proof is None:
            return dict(isa)
        self._say_what_proves()
        words = {**self._statements, **{f"isa.{name}": text for name, text in isa.items()}}
        # What it wrote before its answer may still be on its way through the other pipe.
        end = time.monotonic() + (GRACE if proof.watched else 0.0)
        while time.monotonic() < end and not all(text in matched for source, text in proof.must if source == STDERR):
            time.sleep(0.01)
        proven = proof.read(words, dict(matched), self.name)
        return {**{f"isa.{name}": text for name, text in isa.items()}, **proven}

    def _say_what_proves(self) -> None:
        """Have `hello` asked where a proof may rest on it: between two requests, never inside of one."""
        if self.spec.proof is not None and not any(name.startswith("isa.") for name in self._statements):
            self.hello()

    def _died(self, method: str) -> EngineError:
        code = self._process.wait(2.0)
        time.sleep(0.05)
        missing = next((line for line in self._process.words if line.startswith("ModuleNotFoundError: ")), "")
        if self._process.python and missing and self._count == 1:
            text = f"its interpreter cannot serve it: {missing.removeprefix('ModuleNotFoundError: ')}"
            return self._fail(EnvironmentFailed, text, remedy=environments.remedy(self.spec.engine))
        how = f"killed by {name}" if (name := ended.signal_name(code)) else f"exit code {code}"
        gave_up = f"; it gave up with: {line}" if (line := cause(self._process.words)) else ""
        text = f"its process ended during `{method}` ({how}); asked was {self._request}{gave_up}"
        return self._fail(EngineDied, text, remedy=ended.remedy_of(code))

    def _fail(self, kind: type[EngineError], text: str, *, remedy: str = "") -> EngineError:
        """The process cannot be trusted any more: end it and remember why."""
        self._process.kill()
        words = self.last_words()
        self._broken = kind(f"{text}\n  last words: {words}" if words else text, where=self.name, remedy=remedy)
        return self._broken
