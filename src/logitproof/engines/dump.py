"""The engine `dump`: logits that another program wrote down, as an engine like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.errors import Refusal
from logitproof.readers import open_dump
from logitproof.rows.distance import first_difference
from logitproof.traces.dump import Dump as Contents
from logitproof.traces.dump import DumpedPrompt


@dataclass
class Dump(Engine):
    """Logits that some program wrote down earlier: a file or folder of any format of `logitproof list readers`.

    path is the dump (without it the model's own path is); format is named where the content is ambiguous;
    mode says how the logits were made. Exactly the token ids that it holds can be scored; of a prompt of which it holds some
    positions only, those are measured, and a gate is judged where its scope is among them.
    """

    path: str | None = None
    format: str | None = None
    mode: Literal["prefill", "decode"] = "prefill"
    _contents: Contents | None = field(default=None, init=False, repr=False)

    def hello(self) -> Hello:
        if self.path is None:
            return Hello({"logitproof": version("logitproof")}, (self.mode,), generate=False, tokenize=False)
        contents = self._opened(Path(self.path))
        versions = {f"dump.{name}": value for name, value in contents.versions.items()}
        # Tokens may come from a sidecar, which nobody hashes: what it says is part of what was measured.
        versions["tokens"] = _tokens_sha256(contents)
        greedy = all(_greedy(prompt) is not None for prompt in contents.prompts)
        texts = all(prompt.text is not None for prompt in contents.prompts)
        return Hello({"logitproof": version("logitproof"), "format": contents.format, **versions}, (self.mode,), greedy, texts)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        contents = self._opened(Path(self.path) if self.path is not None else model)
        if contents.vocab_size is None:
            raise Refusal(
                "does not say how large the vocabulary is", field=self._name(model), remedy="dump whole rows of logits"
            )
        return Loaded(contents.vocab_size, details={"format": contents.format, "dump": {**contents.provenance}})

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        if mode != self.mode:
            raise Refusal(f"was made in {self.mode}, {mode} is asked for", field="mode", remedy="dump both, as two candidates")
        prompt = held(self._loaded(), token_ids)
        if prompt.logits is None:
            what = f"the best {prompt.top.ids.shape[1]} entries" if prompt.top is not None else "tokens"
            remedy = "`logitproof compare` gives bounds of KL from top-k values; a verdict needs whole rows"
            raise Refusal(f"holds {what} of prompt {prompt.id!r}, no logits over the whole vocabulary", remedy=remedy)
        if not len(prompt.positions):
            raise Refusal(f"holds no position of prompt {prompt.id!r}", remedy="dump one row of logits at least")
        positions = None if prompt.is_complete else prompt.positions.tolist()
        return Scored(np.asarray(prompt.logits[:]), positions=positions)

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        return continued(self._loaded(), token_ids, max_new_tokens, stop)

    def tokenize(self, text: str) -> list[int]:
        return tokens_of(self._loaded(), text)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return words_of(self._loaded(), token_ids)

    def _opened(self, path: Path) -> Contents:
        if self._contents is None:
            self._contents = open_dump(path, self.format)
        return self._contents

    def _loaded(self) -> Contents:
        if self._contents is None:
            raise Refusal("nothing was loaded")
        return self._contents

    def _name(self, model: Path) -> str:
        return self.path or str(model)


def _tokens_sha256(contents: Contents) -> str:
    facts = [[prompt.token_ids, prompt.prompt_length, prompt.positions.tolist(), prompt.text] for prompt in contents.prompts]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def held(contents: Contents, token_ids: Sequence[int]) -> DumpedPrompt:
    """The prompt with exactly these tokens; a refusal says which is nearest and where it differs."""
    asked = list(token_ids)
    for prompt in contents.prompts:
        if prompt.token_ids == asked:
            return prompt
    if not any(prompt.token_ids for prompt in contents.prompts):
        raise Refusal("holds no token ids, so nobody knows what its logits are of", remedy="add token_ids to its sidecar")
    nearest = max(contents.prompts, key=lambda prompt: first_difference(prompt.token_ids, asked))
    at = first_difference(nearest.token_ids, asked)
    raise Refusal(
        f"does not hold these {len(asked)} tokens; the nearest is prompt {nearest.id!r} with {len(nearest.token_ids)}: "
        f"from index {at} it has {nearest.token_ids[at : at + 4]}, asked are {asked[at : at + 4]}",
        remedy="dump the very tokens that the reference scores: prompt and continuation, as `logitproof capture` keeps them",
    )


def continued(contents: Contents, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
    """The greedy continuation of a prompt, as far as it is held; it must be the rows' own choice."""
    prompt = _starting(contents, list(token_ids))
    rows = _greedy(prompt)
    if rows is None:
        raise Refusal(f"holds no greedy continuation of prompt {prompt.id!r}, or not every row of it")
    new = prompt.token_ids[prompt.prompt_length :]
    end = next((n + 1 for n, token in enumerate(new) if token in stop), len(new))
    if end < max_new_tokens and not (end and new[end - 1] in stop):
        text = f"continues prompt {prompt.id!r} by {len(new)} tokens, {max_new_tokens} are asked for"
        raise Refusal(text, remedy="use the suite that it was made with, or lower max_new_tokens")
    count = min(end, max_new_tokens)
    first = prompt.prompt_length - 1 - int(prompt.positions[0])
    logits = np.asarray(rows[first : first + count])
    finish: Literal["stop", "length"] = "stop" if count and new[count - 1] in stop else "length"
    return Generated(new[:count], logits, finish)


def tokens_of(contents: Contents, text: str) -> list[int]:
    """The token ids of a prompt that is held with its text."""
    for prompt in contents.prompts:
        if prompt.text == text:
            return prompt.token_ids[: prompt.prompt_length]
    raise Refusal(
        f"holds no prompt {text[:40]!r}", remedy="use the suite that it was made with, or give token_ids in the suite"
    )


def words_of(contents: Contents, token_ids: Sequence[int]) -> str:
    """The text of a whole continuation that is held; of any other tokens, their ids."""
    asked = list(token_ids)
    for prompt in contents.prompts:
        if prompt.continuation_text and prompt.token_ids[prompt.prompt_length :] == asked:
            return prompt.continuation_text
    return "".join(f"⟨{token}⟩" for token in asked)


def _starting(contents: Contents, asked: list[int]) -> DumpedPrompt:
    for prompt in contents.prompts:
        if prompt.token_ids[: prompt.prompt_length] == asked:
            return prompt
    held(contents, asked)
    raise Refusal(f"holds these {len(asked)} tokens, but not as a prompt")


def _greedy(prompt: DumpedPrompt) -> np.ndarray | None:
    """The logits, if each token of the continuation is the choice of the row before it (ties to the lowest id)."""
    new, positions = prompt.token_ids[prompt.prompt_length :], prompt.positions
    if prompt.logits is None or not new or not len(positions) or not prompt.prompt_length:
        return None
    first = prompt.prompt_length - 1 - int(positions[0])
    if first < 0 or len(positions) < first + len(new) or (np.diff(positions) != 1).any():
        return None
    rows = prompt.logits
    chosen = all(int(np.argmax(rows[first + n])) == token for n, token in enumerate(new))
    return rows if chosen else None  # type: ignore[return-value]
