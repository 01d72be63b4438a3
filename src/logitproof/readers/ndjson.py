"""The format `ndjson`: `@@name {json}` lines among whatever else an engine prints."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from logitproof.files.untrusted import Foreign, Number, parse_json, refusal, validated
from logitproof.readers import Peek, Reader
from logitproof.readers._files import text_of, write_text
from logitproof.traces.dump import Dump, DumpedPrompt, TopK

LINE = re.compile(r"^@@([A-Za-z_][\w.-]*)\s+(\{.*)$")


class _Prompt(Foreign):
    id: str | Number
    token_ids: list[Number]
    prompt_length: Number | None = None
    text: str | None = None
    continuation_text: str = ""
    bucket: str = "default"


class _Row(Foreign):
    prompt: str | Number
    position: Number


class _Logits(_Row):
    logits: list[float]


class _Top(_Row):
    ids: list[Number]
    logprobs: list[float] | None = None
    logits: list[float] | None = None


class _Meta(Foreign):
    vocab_size: Number | None = None
    versions: dict[str, str] = Field({})


KINDS: dict[str, type[Foreign]] = {"meta": _Meta, "prompt": _Prompt, "logits": _Logits, "topk": _Top}


@dataclass
class Ndjson(Reader):
    """Prefixed NDJSON: `@@meta {vocab_size, versions}`, `@@prompt {id, token_ids, prompt_length, text}`,
    `@@logits {prompt, position, logits}`, `@@topk {prompt, position, ids, logprobs or logits}`.

    Lines without the prefix are an engine's chatter and are passed over; other `@@` names are kept as provenance.
    """

    def recognizes(self, peek: Peek) -> bool:
        return any(LINE.match(line) for line in peek.lines)

    def read(self, path: Path) -> Dump:
        events: dict[str, list[Any]] = defaultdict(list)
        for number, name, value in _lines(path):
            kind = KINDS.get(name)
            events[name].append(validated(path, kind, value, f"line {number}, @@{name}") if kind else value)
        meta = events.pop("meta", [_Meta()])[-1]
        prompts = {str(prompt.id): prompt for prompt in events["prompt"]}
        if len(prompts) != len(events["prompt"]):
            raise refusal(path, "@@prompt", "an id stands twice", "give every prompt an id of its own")
        rows = _by_prompt([*events["logits"], *events["topk"]], prompts, path)
        others = {name: values for name, values in events.items() if name not in ("prompt", "logits", "topk")}
        dumped = tuple(_prompt(name, prompt, rows[name], path) for name, prompt in prompts.items())
        return Dump(dumped, meta.vocab_size, versions=meta.versions, provenance={**(meta.model_extra or {}), **others})

    def write(self, dump: Dump, path: Path) -> None:
        facts = {name: value for name, value in dump.provenance.items() if name not in ("vocab_size", "versions")}
        lines = [_line("meta", {"vocab_size": dump.vocab_size, "versions": dict(dump.versions), **facts})]
        for prompt in dump.prompts:
            about = {name: getattr(prompt, name) for name in ("id", "token_ids", "prompt_length", "text")}
            further = {name: getattr(prompt, name) for name in ("continuation_text", "bucket")}
            lines.append(_line("prompt", {**about, **further}))
            for row, position in enumerate(prompt.positions.tolist()):
                place = {"prompt": prompt.id, "position": position}
                if prompt.logits is not None:
                    lines.append(_line("logits", {**place, "logits": [float(value) for value in prompt.logits[row]]}))
                elif prompt.top is not None:
                    kept = prompt.top.ids[row] >= 0
                    key = "logprobs" if prompt.top.normalized else "logits"
                    values = prompt.top.values[row][kept].tolist()
                    lines.append(_line("topk", {**place, "ids": prompt.top.ids[row][kept].tolist(), key: values}))
        write_text(path, "".join(lines))


def _line(name: str, value: dict[str, Any]) -> str:
    return f"@@{name} {json.dumps(value)}\n"


def _lines(path: Path) -> Iterator[tuple[int, str, Any]]:
    # Not splitlines, which would break a line at characters that JSON may hold.
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if match := LINE.match(line.rstrip("\r")):
            yield number, match.group(1), parse_json(match.group(2), path, f"line {number}, @@{match.group(1)}")


def _by_prompt(rows: list[_Row], prompts: dict[str, _Prompt], path: Path) -> dict[str, list[Any]]:
    by_prompt: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        if str(row.prompt) not in prompts:
            raise refusal(path, "prompt", f"a row is of {row.prompt!r}, which no @@prompt line names", "write it first")
        by_prompt[str(row.prompt)].append(row)
    return {name: sorted(by_prompt[name], key=lambda row: row.position) for name in prompts}


def _prompt(name: str, prompt: _Prompt, rows: list[Any], path: Path) -> DumpedPrompt:
    length = len(prompt.token_ids) if prompt.prompt_length is None else prompt.prompt_length
    positions = np.array([row.position for row in rows], np.int64)
    whole = [isinstance(row, _Logits) for row in rows]
    made = DumpedPrompt(name, prompt.token_ids, length, positions, text=prompt.text)
    made = replace(made, continuation_text=prompt.continuation_text, bucket=prompt.bucket)
    if not rows:
        return made
    if any(whole) and not all(whole):
        raise refusal(path, f"prompt {name}", "has @@logits and @@topk lines", "write one kind")
    if all(whole):
        if len({len(row.logits) for row in rows}) != 1:
            raise refusal(path, f"prompt {name}, logits", "the rows differ in length", "write whole rows")
        return replace(made, logits=_narrow(rows))
    return replace(made, top=_top(name, rows, path))


def _narrow(rows: list[_Logits]) -> np.ndarray:
    """float32 where that loses nothing."""
    values = np.array([row.logits for row in rows], np.float64)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values, equal_nan=True) else values


def _top(name: str, rows: list[_Top], path: Path) -> TopK:
    normalized = rows[0].logprobs is not None
    width = max(len(row.ids) for row in rows)
    ids, values = np.full((len(rows), width), -1, np.int64), np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        given = row.logprobs if normalized else row.logits
        if given is None or len(given) != len(row.ids):
            text = f"{len(row.ids)} ids at position {row.position} and not as many values of one kind"
            raise refusal(path, f"prompt {name}, @@topk", text, "write `logprobs` in every line, or `logits` in every line")
        ids[number, : len(given)], values[number, : len(given)] = row.ids, given
    return TopK(ids, values, normalized)
