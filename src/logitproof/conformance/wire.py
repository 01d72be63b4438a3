"""A worker that sends exactly what it is told to and hands back what came, right or wrong: for `protocol test`."""

from __future__ import annotations

import json
import queue
import time
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from logitproof.files.ended import signal_name
from logitproof.files.last_words import cause
from logitproof.files.worded import in_words
from logitproof.jobs.process import EngineProcess
from logitproof.jobs.shown import is_begun, shown_bytes
from logitproof.jobs.spec import Spec
from logitproof.protocol import messages as protocol

SECOND_THOUGHT = 1.0
"""Seconds in which the right answer may follow one with a wrong id."""


@dataclass(frozen=True)
class Answer:
    """What came back for one line: a result, an error, or `silence`, which says why there was neither; `parts` came before."""

    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    silence: str = ""
    parts: tuple[dict[str, Any], ...] = ()

    @property
    def kind(self) -> str:
        """The kind of the error, empty where there is none."""
        return str((self.error or {}).get("kind", ""))

    def __str__(self) -> str:
        """One short line, as a person would quote it."""
        if self.error is not None:
            field = f"{place}: " if isinstance(place := self.error.get("field"), str) and place else ""
            text = f"error {self.kind or 'without a kind'}: {field}{' '.join(str(self.error.get('message', '')).split())}"
        else:
            text = self.silence or f"result {json.dumps(self.result)}"
        return text if len(text) <= 160 else text[:159] + "…"


@dataclass
class Noted:
    """What was wrong with the traffic itself, whatever it was about; one quoted line each."""

    stray: list[str] = field(default_factory=list)
    is_split: bool = False
    """whether one of them is the beginning of an answer over many lines"""
    wrong_ids: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """the words of the process that ended last, until somebody takes them"""
    progress: int = 0
    wrong_progress: list[str] = field(default_factory=list)


class Wire:
    """An engine's process and its two pipes. Nothing here raises for what an engine says or does not say."""

    def __init__(self, spec: Spec, *, name: str, noted: Noted) -> None:
        self.spec, self.noted = spec, noted
        self._process = EngineProcess(spec, name=name)
        self._count = 0

    @property
    def alive(self) -> bool:
        return self._process.is_running

    def ask(self, method: str, params: dict[str, Any] | None = None) -> Answer:
        """A request as the harness sends it."""
        self._count += 1
        request = {"id": self._count, "method": method, "params": params or {}}
        return self.say(json.dumps(request).encode(), self._count)

    def say(self, line: bytes, number: int | None = None) -> Answer:
        """Any line; `number` is the id that its answer must carry, None where the line has none."""
        self._process.say(line)
        end, fallback, parts = time.monotonic() + self.spec.timeout, None, list[dict[str, Any]]()
        while True:
            try:
                came = self._process.next_line(max(end - time.monotonic(), 0.001))
            except queue.Empty:
                return fallback or Answer(silence=f"no answer within {self.spec.timeout:g} s{self._unended()}")
            if came is None:
                return fallback or Answer(silence=self.how_it_ended())
            message = self._message(came)
            if message is None or self._is_progress(message, came, number, parts):
                continue
            answer = Answer(_record(message.get("result")), _record(message.get("error")), parts=tuple(parts))
            if number is None or message.get("id") == number:
                return answer
            self.noted.wrong_ids.append(f"request {number} was answered with id {message.get('id')!r}")
            fallback, end = answer, min(end, time.monotonic() + SECOND_THOUGHT)

    def hang_up(self) -> int | None:
        """Close the engine's stdin; the exit status, None where it goes on for five seconds."""
        self._process.hang_up()
        return self.wait(5.0)

    def wait(self, seconds: float) -> int | None:
        """The exit status, None where the process goes on."""
        return self._process.wait(seconds)

    def end(self) -> None:
        """Kill it with everything that it started."""
        self._process.kill()

    def how_it_ended(self) -> str:
        """Exit status of a process that is gone, and with what it gave up; its words are noted."""
        status, words = self.wait(2.0), self._process.words
        self.noted.ended = words
        how = f"killed by {name}" if (name := signal_name(status)) else f"status {status}"
        line = cause(words) or (words[-1].strip() if words else "")
        return f"its process ended ({how}){f' with: {line}' if line else ', without a word'}"

    def _unended(self) -> str:
        """What came without a newline, if anything did."""
        left = self._process.unended
        return f"; {len(left)} bytes came without a newline behind them: {shown_bytes(left)}" if left else ""

    def _message(self, line: bytes) -> dict[str, Any] | None:
        """The JSON object of a line; notes lines that are none, and fields that the protocol does not have."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not message.keys() & {"result", "error", "progress", "part"}:
            self.noted.stray.append(shown_bytes(line))
            self.noted.is_split = self.noted.is_split or is_begun(line)
            return None
        try:
            protocol.Response.model_validate_json(line, strict=True)
        except ValidationError as error:
            self.noted.malformed.append(f"{in_words(error)} in {shown_bytes(line)}")
        return message

    def _is_progress(self, message: dict[str, Any], line: bytes, number: int | None, parts: list[dict[str, Any]]) -> bool:
        """Whether a message is one of those before the answer: progress, or a part, which is kept."""
        if "result" in message or "error" in message:
            return False
        if "part" in message:
            parts.append(message["part"] if isinstance(message["part"], dict) else {})
        else:
            self.noted.progress += 1
        if number is not None and message.get("id") != number:
            self.noted.wrong_progress.append(f"while request {number} ran: {shown_bytes(line)}")
        return True


def _record(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
