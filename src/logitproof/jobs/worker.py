"""The harness's end of the protocol: one engine in a process of its own.

A crash, a hang, garbage or a NaN of an engine becomes one `EngineError` here, with the engine's own
last words, and never the end of a run.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from pydantic import ValidationError

from logitproof.contract.isa import STDERR, Proof
from logitproof.errors import (
    ContractError,
    EngineDied,
    EngineError,
    EngineGarbage,
    EngineTimeout,
    EnvironmentFailed,
    LogitproofError,
)
from logitproof.jobs import environments
from logitproof.protocol import messages as protocol
from logitproof.protocol.sampler import Sampling
from logitproof.rows.top import best, is_top, top_fault

LAST_WORDS = 20
"""Lines of stderr that are kept for error messages."""
LINE_LIMIT = 64 * 2**20
"""Bytes an engine may put into one line before it is garbage: a million token ids fit."""
GRACE = 1.0
"""Seconds in which the last lines of a dead engine arrive."""


@dataclass(frozen=True)
class Spec:
    """How to start an engine: its catalogue name, options, environment, interpreter, emulator and time limit.

    With a `proof`, rows count only where the engine's own words prove the instruction set that they were computed with.
    """

    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    python: str | None = None
    timeout: float = 600.0
    directory: str | None = None
    emulator: tuple[str, ...] = ()
    proof: Proof | None = None

    def identity(self) -> dict[str, Any]:
        """Everything of the spec that can change a logit, for content addressing."""
        return {
            "engine": self.engine,
            "options": self.options,
            "environment": self.environment,
            "python": self.python,
            **({"emulator": list(self.emulator), "proof": asdict(self.proof)} if self.proof else {}),
        }


class Worker:
    """A running engine. Use as a context manager; requests raise `EngineError` or `ContractError`.

    >>> with Worker(Spec("toy"), name="toy") as worker:          # doctest: +SKIP
    ...     worker.hello()
    """

    def __init__(self, spec: Spec, *, name: str) -> None:
        self.spec, self.name = spec, name
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._count = 0
        self._broken: EngineError | None = None
        self._vocab_size: int | None = None
        self._said: dict[str, str] = {}
        self._matched: dict[str, str] = {}
        self._python = spec.python or _installed_python(spec.engine)
        self._process = self._start()
        self._threads = [self._pump(one) for one in (self._write_requests, self._read_answers, self._read_words)]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self._broken is None and self._process.poll() is None

    def hello(self) -> protocol.HelloResult:
        """Capabilities, versions and ISA evidence; refuses another version of the protocol."""
        result = protocol.HelloResult.model_validate(self._ask("hello", {"options": self.spec.options.get("options", {})}))
        if result.protocol != protocol.VERSION:
            raise self._fail(EngineGarbage, f"speaks protocol {result.protocol}, this harness speaks {protocol.VERSION}")
        self._said.update({f"isa.{name}": text for name, text in result.isa.items()})
        return result

    def load(self, model: Path, config: Path | None) -> protocol.LoadResult:
        params = {"model": str(model), "config": str(config) if config else None}
        result = protocol.LoadResult.model_validate(self._ask("load", params))
        self._vocab_size = result.vocab_size
        self._said = {name: text for name, text in self._said.items() if not name.startswith("details.")}
        self._said.update(
            {
                f"details.{name}": value if isinstance(value, str) else json.dumps(value)
                for name, value in result.details.items()
            }
        )
        return result

    def tokenize(self, text: str) -> list[int]:
        return protocol.TokenizeResult.model_validate(self._ask("tokenize", {"text": text})).token_ids

    def detokenize(self, token_ids: Sequence[int]) -> str:
        answer = self._ask("detokenize", {"token_ids": list(token_ids)})
        return protocol.DetokenizeResult.model_validate(answer).text

    def score(self, token_ids: Sequence[int], mode: protocol.Mode, logits: Path) -> protocol.ScoreResult:
        """Rows at every position of `token_ids`, written to the file `logits`, checked: shape, finite, possible."""
        params = {"token_ids": list(token_ids), "mode": mode, "logits": str(logits)}
        result = protocol.ScoreResult.model_validate(self._ask("score", params))
        self._check(result, logits, rows=len(token_ids))
        return result.model_copy(update={"isa": self._proven(result.isa)})

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int], logits: Path
    ) -> protocol.GenerateResult:
        """Greedy continuation with the logits [N, V] that each new token was chosen from, checked.

        Raises EngineGarbage where a token is not the argmax of its row or the continuation ends without cause.
        """
        params = {
            "token_ids": list(token_ids),
            "max_new_tokens": max_new_tokens,
            "stop": list(stop),
            "logits": str(logits),
        }
        result = protocol.GenerateResult.model_validate(self._ask("generate", params))
        self._check_end(result, max_new_tokens, stop)
        if result.token_ids:
            self._check(result, logits, rows=len(result.token_ids))
            self._check_greedy(result)
            result = result.model_copy(update={"isa": self._proven(result.isa)})
        return result

    def sample(
        self, token_ids: Sequence[int], count: int, max_new_tokens: int, stop: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        """Continuations that the engine draws itself; as many as asked for, none longer, all of its vocabulary."""
        params = {"token_ids": list(token_ids), "count": count, "max_new_tokens": max_new_tokens, "stop": list(stop)}
        drawn = protocol.SampleResult.model_validate(self._ask("sample", {**params, **asdict(sampling)})).token_ids
        if len(drawn) != count or any(len(one) > max_new_tokens for one in drawn):
            raise self._fail(EngineGarbage, f"{len(drawn)} continuations, {count} of {max_new_tokens} tokens were asked for")
        if any(token >= (self._vocab_size or token + 1) for one in drawn for token in one):
            raise self._fail(EngineGarbage, "it drew a token outside its vocabulary")
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
        found = protocol.TapsResult.model_validate(self._ask("taps", asked)).taps
        for name, tensor in found.items():
            if Path(tensor.path).parent != folder:
                raise self._fail(EngineGarbage, f"wrote tap {name} to another folder than it was given")
            try:
                values = tensor.open()
            except (OSError, ValueError) as error:
                raise self._fail(EngineGarbage, f"the file of tap {name} is not what it says: {error}") from None
            if np.isnan(values).any():
                raise EngineGarbage(f"tap {name} holds nan", where=self.name, remedy="look at the operation before it")
        return found

    def close(self) -> None:
        """End the engine: politely, then not."""
        if self.alive:
            with contextlib.suppress(LogitproofError):
                self._ask("close", {}, timeout=5.0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=2.0)
        self._kill()

    def last_words(self) -> str:
        """The last lines that the engine wrote to stderr."""
        return "\n".join(self._words)

    # -- the wire -------------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        python = self._python or sys.executable
        argv = [*self.spec.emulator, python, "-m", "logitproof.serve", self.spec.engine, json.dumps(self.spec.options)]
        environment = {**os.environ, **self.spec.environment, "PYTHONUNBUFFERED": "1"}
        if self._python:
            environment["PYTHONPATH"] = _source_alone()
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=self.spec.directory,
                start_new_session=True,
            )
        except OSError as error:
            raise ContractError(
                f"cannot start {argv[0]}: {error.strerror}",
                where=self.name,
                remedy="`python` must name an interpreter with logitproof's engine installed",
            ) from None

    def _pump(self, target: Any) -> threading.Thread:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        return thread

    # A pipe is closed by the one thread that uses it: what an engine started may hold the other end for ever.

    def _write_requests(self) -> None:
        pipe: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        with contextlib.suppress(OSError), pipe:
            while (request := self._requests.get()) is not None:
                pipe.write(request)
                pipe.flush()

    def _read_answers(self) -> None:
        pipe: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        with pipe:
            while line := pipe.readline(LINE_LIMIT):
                self._lines.put(line)
        self._lines.put(None)

    def _read_words(self) -> None:
        pipe: IO[bytes] = self._process.stderr  # type: ignore[assignment]
        watched = self.spec.proof.watched if self.spec.proof else ()
        with pipe:
            while line := pipe.readline(4096):
                words = line.decode("utf-8", "replace").rstrip()
                self._words.append(words)
                for pattern in watched:
                    if pattern not in self._matched and re.search(pattern, words):
                        self._matched[pattern] = words

    def _ask(self, method: str, params: dict[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        if self._broken is not None:
            raise self._broken
        self._count += 1
        self._requests.put(json.dumps({"id": self._count, "method": method, "params": params}).encode() + b"\n")
        while True:
            response = self._receive(method, timeout or self.spec.timeout)
            if response.error is not None:
                raise self._error(response.error)
            if response.result is not None:
                return self._valid(method, response.result)
            if response.progress is None:
                raise self._fail(EngineGarbage, f"answered `{method}` with neither result nor error")

    def _receive(self, method: str, timeout: float) -> protocol.Response:
        try:
            line = self._next_line(timeout)
        except queue.Empty:
            text = f"no answer to `{method}` within {timeout:g} s, so it was killed"
            raise self._fail(EngineTimeout, text, remedy="raise the engine's `timeout` if it is only slow") from None
        if line is None:
            raise self._died(method)
        try:
            response = protocol.Response.model_validate_json(line)
        except ValidationError:
            text = f"answered `{method}` with something that is not the protocol: {line[:120]!r}"
            raise self._fail(EngineGarbage, text, remedy="stdout belongs to the protocol, log to stderr") from None
        if response.id != self._count:
            raise self._fail(EngineGarbage, f"answered request {response.id}, request {self._count} was asked")
        return response

    def _next_line(self, timeout: float) -> bytes | None:
        """The next line, None where the engine is gone; raises queue.Empty after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            gone = self._process.poll() is not None
            try:
                return self._lines.get(timeout=min(GRACE, max(end - time.monotonic(), 0.001)))
            except queue.Empty:
                if gone:
                    return None
                if time.monotonic() >= end:
                    raise

    def _valid(self, method: str, result: dict[str, Any]) -> dict[str, Any]:
        try:
            protocol.METHODS[method][1].model_validate(result)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            text = f"its answer to `{method}` breaks the protocol at `{place}`: {first['msg']}"
            raise self._fail(EngineGarbage, text, remedy="see docs/protocol.md") from None
        return result

    def _error(self, fault: protocol.Fault) -> LogitproofError:
        where = f"{self.name}: {fault.field}" if fault.field else self.name
        if fault.kind in ("refused", "unsupported"):
            return ContractError(fault.message, where=where, remedy=fault.remedy)
        kind = EnvironmentFailed if fault.kind == "environment" else EngineError
        return kind(fault.message, where=where, remedy=fault.remedy)

    def _proven(self, isa: Mapping[str, str]) -> dict[str, str]:
        """What the engine says of its instructions; raises ContractError where that is no proof of those asked for."""
        proof = self.spec.proof
        if proof is None:
            return dict(isa)
        if not any(name.startswith("isa.") for name in self._said):
            self.hello()
        said = {**self._said, **{f"isa.{name}": text for name, text in isa.items()}}
        # What it wrote before its answer may still be on its way through the other pipe.
        end = time.monotonic() + (GRACE if proof.watched else 0.0)
        while time.monotonic() < end and not all(text in self._matched for source, text in proof.must if source == STDERR):
            time.sleep(0.01)
        found = proof.read(said, dict(self._matched), self.name)
        return {**{f"isa.{name}": text for name, text in isa.items()}, **found}

    def _check(self, result: protocol.Rows, asked: Path, *, rows: int) -> None:
        """Shape, size and finiteness of what the engine wrote, before anyone computes with it."""
        if result.whole is not None:
            self._check_tensor(result.whole, asked, (rows, self._vocab_size), ("float32", "float64"))
            logits = self._opened(result)
            for position, row in enumerate(logits):
                if np.isnan(row).any() or np.isposinf(row).any() or np.isneginf(row).all():
                    bad = int(np.flatnonzero(~np.isfinite(row))[0])
                    value = float(row[bad])
                    text = f"logits hold {value} at position {position}, vocabulary entry {bad}"
                    raise EngineGarbage(text, where=self.name, remedy="look for an overflow or an uninitialised buffer")
            return
        assert result.topk_ids is not None
        wanted = (rows, result.topk_ids.shape[-1] if result.topk_ids.shape else 0)
        self._check_tensor(result.topk_ids, Path(f"{asked}.topk_ids"), wanted, ("int32",))
        if result.topk_logprobs is not None:
            self._check_tensor(result.topk_logprobs, Path(f"{asked}.topk_logprobs"), wanted, ("float32",))
        if fault := top_fault(self._opened(result), self._vocab_size):
            text = f"its best entries at position {fault[0]} cannot be true: {fault[1]}"
            raise EngineGarbage(text, where=self.name, remedy="give log-probabilities over the whole vocabulary, best first")

    def _check_tensor(
        self, tensor: protocol.Tensor, asked: Path, wanted: tuple[int, int | None], dtypes: tuple[str, ...]
    ) -> None:
        if tensor.shape != wanted or Path(tensor.path) != asked or tensor.dtype not in dtypes:
            raise self._fail(
                EngineGarbage,
                f"logits of shape {list(tensor.shape)}, expected {list(wanted)} (positions, vocabulary)",
                remedy="one row a token id, one column an entry of the vocabulary that `load` announced",
            )

    def _opened(self, result: protocol.Rows) -> np.ndarray:
        try:
            return result.open()
        except (OSError, ValueError) as error:
            raise self._fail(EngineGarbage, f"its logits file is not what it says: {error}") from None

    def _check_end(self, result: protocol.GenerateResult, max_new_tokens: int, stop: Sequence[int]) -> None:
        ids = result.token_ids
        if len(ids) > max_new_tokens:
            raise self._fail(EngineGarbage, f"{len(ids)} new tokens, {max_new_tokens} were asked for")
        if result.finish == "stop" and not (ids and ids[-1] in stop):
            raise self._fail(EngineGarbage, "its continuation ends by `stop`, and its last token is none of those")
        if result.finish == "length" and len(ids) < max_new_tokens:
            raise self._fail(EngineGarbage, f"ends by `length` after {len(ids)} new tokens, {max_new_tokens} were asked for")

    def _check_greedy(self, result: protocol.GenerateResult) -> None:
        for position, (token, row) in enumerate(zip(result.token_ids, result.open(), strict=True)):
            if token >= (self._vocab_size or token + 1):
                raise self._fail(EngineGarbage, f"token {token} at new position {position} is outside its vocabulary")
            # Of equals any is a right choice; of the best entries only the first is known to be one.
            if (token != best(row)) if is_top(row) else (row[token] != row.max()):
                text = f"token {token} at new position {position} is not the argmax of its logits, which is {best(row)}"
                remedy = "`generate` is greedy: no temperature, no penalty, no other sampler"
                raise EngineGarbage(text, where=self.name, remedy=remedy)

    def _died(self, method: str) -> EngineError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        time.sleep(0.05)
        code = self._process.poll()
        missing = next((line for line in self._words if line.startswith("ModuleNotFoundError: ")), "")
        if self._python and missing and self._count == 1:
            text = f"its interpreter cannot serve it: {missing.removeprefix('ModuleNotFoundError: ')}"
            return self._fail(EnvironmentFailed, text, remedy=environments.remedy(self.spec.engine))
        how = f"killed by {_signal_name(-code)}" if code is not None and code < 0 else f"exit code {code}"
        return self._fail(EngineDied, f"its process ended during `{method}` ({how})")

    def _fail(self, kind: type[EngineError], text: str, *, remedy: str = "") -> EngineError:
        """The process cannot be trusted any more: end it and remember why."""
        self._kill()
        words = self.last_words()
        self._broken = kind(f"{text}\n  last words: {words}" if words else text, where=self.name, remedy=remedy)
        return self._broken

    def _kill(self) -> None:
        # The whole session, so that a program that the engine started does not outlive it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._requests.put(None)
        for thread in self._threads:
            thread.join(timeout=GRACE)


def _installed_python(engine: str) -> str | None:
    """The interpreter of the engine's own environment, where `logitproof engines install` has made one."""
    found = environments.installed(engine)
    return str(found.python) if found else None


@functools.cache
def _source_alone() -> str:
    """A folder with this package and nothing beside it: installed, its neighbours would shadow another interpreter's."""
    folder = tempfile.mkdtemp(prefix="logitproof-source-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, "logitproof").symlink_to(Path(__file__).parents[1])
    return folder


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
