"""A program that is run once a request and cannot be changed: what it is given, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.errors import Refusal, did_you_mean
from logitproof.files.ended import advice, signal_name
from logitproof.files.hashes import file_sha256
from logitproof.files.last_words import cause, last_words, shortened
from logitproof.gguf.vocabulary import vocabulary_size
from logitproof.rows.top import best

TokenFile = Literal["text", "json", "int32"]
WhichRows = Literal["all", "last"]
PLACES = ("model", "config", "tokens", "tokens_file", "count", "mode", "out")
WORDS = 14
"""Lines of stderr, or of stdout where that is empty, that are quoted when a program fails."""


class ProgramFailed(RuntimeError):
    """The program ended otherwise than with status 0, not in time, or gave what it must not; quotes its own words."""


@dataclass(frozen=True)
class Run:
    """A run that ended with status 0: what it printed, and the file that it was to write."""

    stdout: str
    stderr: str
    out: Path

    def quoted(self) -> str:
        """Its first lines and its last."""
        return _last_words(self.stdout, self.stderr)


@dataclass(frozen=True)
class Program:
    """A command line and environment with places in braces: {model}, {tokens}, {out} and so on; no shell reads them.

    {tokens} are the ids joined by `separator`; {tokens_file} is a file of them (text as {tokens}, a JSON list, or
    little-endian int32), {count} their number; {out} a file that the program may write. `{{` stands for a brace.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    separator: str
    tokens_file: TokenFile
    timeout: float

    def check(self) -> dict[str, str]:
        """The program's sha256 for `versions`; a Refusal where it cannot be run or a place is unknown."""
        if not self.argv:
            raise Refusal("it is empty", field="argv", remedy="name the program and its arguments")
        for field, texts in (("argv", self.argv), ("environment", self.environment.values())):
            for name in (name for text in texts for name in _places(text)):
                if name not in PLACES:
                    raise Refusal(f"{{{name}}} stands for nothing{did_you_mean(name, list(PLACES))}", field=field)
        program = shutil.which(self.argv[0], path=self.environment.get("PATH"))
        if program is None:
            remedy = "give a path (relative to the contract) or a name on PATH, and make it executable"
            raise Refusal(f"{self.argv[0]!r} is no program that can be run", field="argv", remedy=remedy)
        # A script is what its arguments name, and changes logits as its interpreter does.
        files = [Path(program), *(Path(word) for word in self.argv[1:] if Path(word).is_file())]
        return {file.name: file_sha256(file) for file in files}

    def needs(self, *names: str) -> bool:
        """Whether any of these places is used."""
        return any(name in _places(text) for text in (*self.argv, *self.environment.values()) for name in names)

    def run(
        self, token_ids: Sequence[int], mode: Mode, model: Path, config: Path | None, read: Callable[[Run], np.ndarray]
    ) -> np.ndarray:
        """What `read` makes of one run; the files of the run are gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="logitproof-") as name:
            folder = Path(name)
            tokens = self.separator.join(str(token) for token in token_ids)
            self._write_tokens(folder / "tokens", tokens, token_ids)
            values = {
                "model": str(model),
                "config": str(config or ""),
                "tokens": tokens,
                "tokens_file": str(folder / "tokens"),
                "count": str(len(token_ids)),
                "mode": mode,
                "out": str(folder / "out"),
            }
            return read(self._finished(values, folder / "out"))

    def _write_tokens(self, path: Path, text: str, token_ids: Sequence[int]) -> None:
        if self.tokens_file == "int32":
            path.write_bytes(np.asarray(token_ids, "<i4").tobytes())
        else:
            path.write_text(json.dumps(list(token_ids)) if self.tokens_file == "json" else f"{text}\n", "utf-8")

    def _finished(self, values: Mapping[str, str], out: Path) -> Run:
        argv = [_filled(word, values) for word in self.argv]
        environment = {**os.environ, **{name: _filled(text, values) for name, text in self.environment.items()}}
        argv[0] = shutil.which(argv[0], path=self.environment.get("PATH")) or argv[0]
        try:
            # Without stdin, a program that turns interactive ends instead of waiting for ever.
            ended = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            words = _last_words(_text(error.stdout), _text(error.stderr))
            raise ProgramFailed(f"it did not end within {self.timeout:g} s and was killed{words}") from None
        stdout, stderr = _text(ended.stdout), _text(ended.stderr)
        if (status := ended.returncode) != 0:
            how = f"was killed by {name}" if (name := signal_name(status)) else f"ended with status {status}"
            raise ProgramFailed(f"it {how}{advice(status)}{_last_words(stdout, stderr)}")
        return Run(stdout, stderr, out)


class ProgramEngine(Engine):
    """An engine that runs a program once a request. Subclasses are dataclasses of these options, and read a run."""

    argv: list[str]
    environment: dict[str, str]
    separator: str
    tokens_as: TokenFile
    rows: WhichRows
    vocab_size: int | None
    modes: list[Mode]
    generates: bool
    timeout: float
    _model: Path | None = None
    _config: Path | None = None
    _size: int = 0

    def read(self, run: Run, count: int) -> np.ndarray:
        """`count` rows of a run: float [count, V] or `toprows.TOP` [count, K]; raises ProgramFailed where they are not."""
        raise NotImplementedError

    def hello(self) -> Hello:
        versions = self._program.check()
        if not self._program.needs("tokens", "tokens_file"):
            raise Refusal("nothing tells the program its tokens", field="argv", remedy="use {tokens} or {tokens_file}")
        if "decode" in self.modes and "prefill" in self.modes and not self._program.needs("mode"):
            raise Refusal(
                "nothing tells the program which of its modes to take", field="modes", remedy="use {mode}, or name one"
            )
        return Hello(versions, tuple(self.modes), generate=self.generates, tokenize=False)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        if not model.exists():
            raise Refusal(f"{model} does not exist", field="model")
        self._size = self.vocab_size or vocabulary_size(config or model)
        self._model, self._config = model, config
        return Loaded(self._size, details={"argv": self.argv, "rows": self.rows})

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        if self.rows == "all":
            return Scored(self._run(token_ids, mode, len(token_ids)))
        rows = [self._run(token_ids[:end], mode, 1) for end in range(1, len(token_ids) + 1)]
        return Scored(np.concatenate(rows))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        ids, finish = list(token_ids), "length"
        rows: list[np.ndarray] = []
        while len(rows) < max_new_tokens and finish == "length":
            rows.append(self._run(ids, self.modes[0], len(ids) if self.rows == "all" else 1)[-1])
            ids.append(best(rows[-1]))
            finish = "stop" if ids[-1] in stop else "length"
        logits = np.stack(rows) if rows else np.empty((0, self._size), np.float32)
        return Generated(ids[len(token_ids) :], logits, finish)  # type: ignore[arg-type]

    @property
    def _program(self) -> Program:
        return Program(self.argv, self.environment, self.separator, self.tokens_as, self.timeout)

    def _run(self, token_ids: Sequence[int], mode: Mode, count: int) -> np.ndarray:
        if self._model is None:
            raise Refusal("no model is loaded", remedy="send load first")
        if mode not in self.modes:
            raise Refusal(f"the program computes in {' and '.join(self.modes)}", field="mode")
        if (largest := max(token_ids)) >= self._size:
            raise Refusal(f"token id {largest} is outside the vocabulary of {self._size}", field="token_ids")
        return self._program.run(token_ids, mode, self._model, self._config, lambda run: self.read(run, count))


def _places(text: str) -> list[str]:
    return [name for name in re.findall(r"\{\{|\{([^{}]*)\}", text) if name]


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(
        r"\{\{|\}\}|\{([^{}]*)\}", lambda match: match[0][0] if match[1] is None else values.get(match[1], match[0]), text
    )


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""


def _last_words(stdout: str, stderr: str) -> str:
    lines = last_words(stderr.strip() or stdout.strip())
    gave_up = f"; it gave up with: {line[:200]}" if (line := cause(lines)) else ""
    shown = "\n    ".join(line[:200] for line in shortened(lines, WORDS))
    return f"{gave_up}\n  last words: {shown}" if lines else ", without a word"
