"""The engine `stdout`: a program that takes token ids and prints its logits among whatever else it prints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from logitproof.engines import Mode
from logitproof.engines._program import ProgramEngine, ProgramFailed, Run, TokenFile, WhichRows
from logitproof.errors import Refusal
from logitproof.rows.top import top_rows

GROUPS = {"position", "id", "logit", "logprob", "logits"}


@dataclass(frozen=True)
class _Row:
    """What was printed of one position: the whole row, or some entries of it, or the chosen token alone (NaN)."""

    whole: list[float] | None = None
    entries: tuple[tuple[int, float], ...] = ()
    normalized: bool = False


@dataclass
class Stdout(ProgramEngine):
    """A program run once a request, unchanged: token ids in by argument, variable or file, logits out on its stdout.

    Places in `argv` and `environment`, no shell: {model} {config} {tokens} {tokens_file} {count} {mode}; see `dumper`.
    With `prefix`, lines such as `@logits {"position": 0, "logits": [...]}`, or with "top": [[id, logprob], ...], or
    "top_logits" and "logsumexp"; "position" may be left out. With `pattern`, a regular expression whose groups are
    named position, id, logprob, logit or logits (numbers): each match is an entry, or a row. `rows` last: each prefix is
    a run of its own, and one row is printed. Top-k logits without their log-sum-exp say which token is best, no more.
    """

    argv: list[str]
    prefix: str | None = None
    pattern: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    separator: str = ","
    tokens_as: TokenFile = "text"
    rows: WhichRows = "all"
    vocab_size: int | None = None
    modes: list[Mode] = field(default_factory=lambda: list[Mode](["prefill"]))
    generates: bool = True
    timeout: float = 300.0

    def __post_init__(self) -> None:
        if (self.prefix is None) == (self.pattern is None):
            raise Refusal("exactly one of prefix and pattern says where the logits are", field="prefix")
        if self.pattern is not None:
            _check(self.pattern)

    def read(self, run: Run, count: int) -> np.ndarray:
        printed = self._events(run.stdout) if self.prefix is not None else self._matches(run.stdout)
        rows: dict[int, _Row] = {}
        for position, row in printed:
            # A program that prints its last row alone counts as it likes.
            at = 0 if self.rows == "last" else position
            if at in rows and (rows[at].whole is not None or row.whole is not None or self.prefix is not None):
                raise ProgramFailed(f"position {position} is printed twice{run.quoted()}")
            rows[at] = _Row(row.whole, (*(rows[at].entries if at in rows else ()), *row.entries), row.normalized)
        if missing := sorted(set(range(count)) - rows.keys()):
            raise ProgramFailed(
                f"of {count} rows {len(missing)} are not printed, the first is position {missing[0]}{run.quoted()}"
            )
        if too_many := sorted(rows.keys() - set(range(count))):
            raise ProgramFailed(f"position {too_many[0]} is printed, {count} tokens were given{run.quoted()}")
        return self._array([rows[at] for at in range(count)])

    def _events(self, text: str) -> Iterator[tuple[int, _Row]]:
        assert self.prefix is not None
        lines = (line.strip()[len(self.prefix) :] for line in text.splitlines() if line.strip().startswith(self.prefix))
        for number, line in enumerate(lines):
            try:
                event = json.loads(line)
                yield int(event.get("position", number)), _event(event)
            except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
                raise ProgramFailed(
                    f"line {number} of {self.prefix!r} is none of its events ({error!r}): {line[:120]}"
                ) from None

    def _matches(self, text: str) -> Iterator[tuple[int, _Row]]:
        assert self.pattern is not None
        for number, match in enumerate(re.finditer(self.pattern, text, re.MULTILINE)):
            groups = match.groupdict()
            try:
                position = number if groups.get("position") is None else int(groups["position"])
                if (numbers := groups.get("logits")) is not None:
                    yield position, _Row([float(word) for word in re.split(r"[\s,;]+", numbers.strip(" []\t\n"))])
                else:
                    value = groups.get("logprob") or groups.get("logit") or "nan"
                    yield position, _Row(None, ((int(groups["id"]), float(value)),), groups.get("logprob") is not None)
            except (ValueError, TypeError, OverflowError) as error:
                raise ProgramFailed(f"match {number} of the pattern holds no numbers ({error}): {match[0][:120]}") from None

    def _array(self, rows: list[_Row]) -> np.ndarray:
        size = self._size
        if any(not 0 <= token < size for row in rows for token, _ in row.entries):
            raise ProgramFailed(f"a token id is printed that is outside the vocabulary of {size}")
        if all(row.whole is not None for row in rows):
            widths = {len(row.whole or ()) for row in rows}
            if widths != {size}:
                raise ProgramFailed(f"rows of {sorted(widths)} logits are printed, the vocabulary has {size}")
            return np.array([row.whole for row in rows], np.float64)
        if any(row.whole is not None for row in rows):
            raise ProgramFailed("some rows are printed whole, others in part")
        if all({token for token, _ in row.entries} == set(range(size)) and len(row.entries) == size for row in rows):
            return np.array([[value for _, value in sorted(row.entries)] for row in rows], np.float64)
        ordered = [sorted(row.entries, key=lambda entry: (-entry[1], entry[0])) for row in rows]
        if not all(row.normalized for row in rows):
            return top_rows(np.array([[entries[0][0]] for entries in ordered]), None)
        width = max(len(entries) for entries in ordered)
        filled = [[*entries, *([(-1, math.nan)] * (width - len(entries)))] for entries in ordered]
        return top_rows(
            np.array([[token for token, _ in entries] for entries in filled]),
            np.array([[v for _, v in entries] for entries in filled]),
        )


def _event(event: dict[str, Any]) -> _Row:
    if "logits" in event:
        return _Row([float(value) for value in event["logits"]])
    if "top" in event:
        return _Row(None, tuple((int(token), float(value)) for token, value in event["top"]), True)
    if "top_logits" in event:
        total = event.get("logsumexp")
        shift = 0.0 if total is None else float(total)
        return _Row(None, tuple((int(token), float(value) - shift) for token, value in event["top_logits"]), total is not None)
    return _Row(None, ((int(event["id"]), math.nan),))


def _check(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groupindex.keys()
    except re.error as error:
        raise Refusal(f"it is no regular expression: {error}", field="pattern") from None
    if groups - GROUPS or not groups & {"id", "logits"}:
        text = f"its groups are {sorted(groups) or 'none'}, one of id and logits must be there"
        raise Refusal(text, field="pattern", remedy=f"name groups (?P<id>…); known: {', '.join(sorted(GROUPS))}")
