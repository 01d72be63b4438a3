"""The format `hf_fixture`: JSON of one row of logits after a prompt, as transformers scripts write it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from logitproof.files.untrusted import Foreign, Number, refusal, validated
from logitproof.readers import Peek, Reader
from logitproof.readers._files import json_of, logits_of, write_text
from logitproof.traces.dump import Dump, DumpedPrompt


class _Fixture(Foreign):
    tokens: list[Number]
    vocab_size: Number
    position: Number
    logits: list[float]
    argmax_token: Number
    id: str | None = None
    model_name: str = ""
    model_dtype: str = ""
    prompt: str | None = None
    prompt_length: Number | None = None
    position_is: Literal["index", "step"] | None = None
    versions: dict[str, str] = Field({})


@dataclass
class HfFixture(Reader):
    """HF fixture JSON `{model_name, model_dtype, prompt, tokens, vocab_size, position, logits, argmax_token, …}`.

    One object, or a list of them. `position` is the index of a token or the generation step, which differ:
    where both readings are possible `position_is: index` or `step` must stand beside it.
    """

    def recognizes(self, peek: Peek) -> bool:
        return {"tokens", "logits", "argmax_token", "position"} <= peek.keys

    def read(self, path: Path) -> Dump:
        data = json_of(path)
        items = data if isinstance(data, list) else [data]
        fixtures = [validated(path, _Fixture, item, f"[{n}]" if isinstance(data, list) else "") for n, item in enumerate(items)]
        if not fixtures:
            raise refusal(path, "", "is an empty list", "write at least one fixture")
        groups: dict[str, list[_Fixture]] = defaultdict(list)
        for number, fixture in enumerate(fixtures):
            groups[fixture.id or (path.stem if len(fixtures) == 1 else str(number))].append(fixture)
        first = fixtures[0]
        if odd := next((fixture for fixture in fixtures if fixture.vocab_size != first.vocab_size), None):
            raise refusal(path, "vocab_size", f"is {first.vocab_size} and {odd.vocab_size}", "one file, one model")
        return Dump(
            prompts=tuple(_prompt(name, group, path) for name, group in groups.items()),
            vocab_size=first.vocab_size,
            versions=first.versions,
            provenance={"model": first.model_name, "dtype": first.model_dtype},
        )

    def write(self, dump: Dump, path: Path) -> None:
        items = []
        for prompt in dump.prompts:
            for position, row in zip(prompt.positions.tolist(), logits_of(prompt, path), strict=True):
                items.append(
                    {
                        "id": prompt.id,
                        "model_name": str(dump.provenance.get("model", "")),
                        "model_dtype": str(dump.provenance.get("dtype", "")),
                        "prompt": prompt.text,
                        "prompt_length": prompt.prompt_length,
                        "tokens": prompt.token_ids,
                        "vocab_size": len(row),
                        "position": position,
                        "position_is": "index",
                        "logits": [float(value) for value in row],
                        "argmax_token": int(np.argmax(row)),
                        "versions": dict(dump.versions),
                    }
                )
        write_text(path, json.dumps(items if len(items) > 1 else items[0]))


def _prompt(name: str, group: list[_Fixture], path: Path) -> DumpedPrompt:
    rows = sorted((_position(fixture, path), number) for number, fixture in enumerate(group))
    for fixture in group:
        if fixture.tokens != group[0].tokens:
            raise refusal(path, f"prompt {name}, tokens", "differ between fixtures of one id", "give them ids of their own")
        if not fixture.logits or len(fixture.logits) != fixture.vocab_size:
            text = f"{len(fixture.logits)} logits, vocab_size is {fixture.vocab_size}"
            raise refusal(path, f"prompt {name}, logits", text, "dump the whole row")
        if (best := int(np.argmax(fixture.logits))) != fixture.argmax_token:
            text = f"is {fixture.argmax_token}, the largest logit is that of {best}"
            raise refusal(path, f"prompt {name}, argmax_token", text, "the fixture contradicts itself: dump it again")
    logits = np.array([group[number].logits for _, number in rows], np.float64)
    exact = logits.astype(np.float32)
    return DumpedPrompt(
        id=name,
        token_ids=group[0].tokens,
        prompt_length=group[0].prompt_length or len(group[0].tokens),
        positions=np.array([position for position, _ in rows], np.int64),
        logits=exact if np.array_equal(exact, logits, equal_nan=True) else logits,
        text=group[0].prompt,
    )


def _position(fixture: _Fixture, path: Path) -> int:
    """The index of the token that the row follows."""
    last, position = len(fixture.tokens) - 1, fixture.position
    prompt_end = (fixture.prompt_length or len(fixture.tokens)) - 1
    if fixture.position_is is not None:
        return position if fixture.position_is == "index" else prompt_end + position
    if position in (0, last):
        return last  # step 0 after the prompt, or the index of its last token: the same row
    text = f"is {position} of {last + 1} tokens: a generation step, or the index of a token?"
    raise refusal(path, "position", text, 'add "position_is": "index" or "step" to the fixture')
