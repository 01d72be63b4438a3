"""The format `llamacpp_fixture`: JSON of greedy steps with the best logits of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from logitproof.files.untrusted import Foreign, Number, refusal, validated
from logitproof.readers import Peek, Reader
from logitproof.readers._files import json_of, write_text
from logitproof.traces.dump import Dump, DumpedPrompt, TopK

K = 20


class _Step(Foreign):
    step: Number
    top1_id: Number
    top1_logit: float
    topk_ids: list[Number]
    topk_logits: list[float]


class _Prompt(Foreign):
    id: str | Number
    text: str | None = None
    prompt_token_ids: list[Number]
    steps: list[_Step]


class _File(Foreign):
    prompts: list[_Prompt]
    vocab_size: Number | None = None
    versions: dict[str, str] = Field({})


@dataclass
class LlamacppFixture(Reader):
    """llama.cpp fixture JSON: `prompts[].{id, text, prompt_token_ids, steps[]}` of greedy steps.

    A step is `{step, top1_id, top1_logit, topk_ids, topk_logits}`. The top-k values are logits
    whose sum nobody knows: they bound KL from below only. Written with the best 20.
    """

    def recognizes(self, peek: Peek) -> bool:
        prompts = peek.json.get("prompts") if isinstance(peek.json, dict) else None
        first = prompts[0] if isinstance(prompts, list) and prompts else None
        return isinstance(first, dict) and {"prompt_token_ids", "steps"} <= set(first)

    def read(self, path: Path) -> Dump:
        file = validated(path, _File, json_of(path))
        known = {"vocab_size", "versions", "prompts"}
        return Dump(
            prompts=tuple(_prompt(prompt, path) for prompt in file.prompts),
            vocab_size=file.vocab_size,
            versions=file.versions,
            provenance={key: value for key, value in (file.model_extra or {}).items() if key not in known},
        )

    def write(self, dump: Dump, path: Path) -> None:
        prompts = [_written(prompt, path) for prompt in dump.prompts]
        record = {"vocab_size": dump.vocab_size, "versions": dict(dump.versions), "prompts": prompts}
        write_text(path, json.dumps(record))


def _prompt(prompt: _Prompt, path: Path) -> DumpedPrompt:
    place = f"prompt {prompt.id}"
    widths = {len(step.topk_ids) for step in prompt.steps}
    for number, step in enumerate(prompt.steps):
        if step.step != number:
            raise refusal(
                path, f"{place}, steps", f"step {step.step} stands where {number} should", "write every step, in order"
            )
        if not step.topk_ids or len(step.topk_ids) != len(step.topk_logits) or step.topk_ids[0] != step.top1_id:
            text = f"{len(step.topk_ids)} ids, {len(step.topk_logits)} logits, the first must be top1_id {step.top1_id}"
            raise refusal(path, f"{place}, step {number}, topk_ids", text, "write as many logits as ids, largest first")
    width, last = max(widths, default=0), len(prompt.prompt_token_ids) - 1
    ids = np.full((len(prompt.steps), width), -1, np.int64)
    values = np.full((len(prompt.steps), width), np.nan)
    for row, step in enumerate(prompt.steps):
        ids[row, : len(step.topk_ids)], values[row, : len(step.topk_ids)] = step.topk_ids, step.topk_logits
    return DumpedPrompt(
        id=str(prompt.id),
        # The last token was chosen and never fed.
        token_ids=[*prompt.prompt_token_ids, *(step.top1_id for step in prompt.steps)],
        prompt_length=len(prompt.prompt_token_ids),
        positions=np.arange(last, last + len(prompt.steps)),
        top=TopK(ids, values, normalized=False) if prompt.steps else None,
        text=prompt.text,
    )


def _written(prompt: DumpedPrompt, path: Path) -> dict[str, Any]:
    ids, values = best_of(prompt, K, path)
    steps: list[dict[str, Any]] = []
    for position, row_ids, row_values in zip(prompt.positions.tolist(), ids, values, strict=True):
        step, following = position - prompt.prompt_length + 1, position + 1
        if step < 0:
            continue
        if step != len(steps):
            raise refusal(
                path, f"prompt {prompt.id}", f"step {len(steps)} is missing", "dump every row from the prompt's end on"
            )
        if following < len(prompt.token_ids) and prompt.token_ids[following] != row_ids[0]:
            text = f"token {following} is not the reference's own choice: this format holds greedy steps only"
            raise refusal(path, f"prompt {prompt.id}", text, "choose another format with --to")
        kept = row_ids >= 0
        steps.append(
            {
                "step": step,
                "top1_id": int(row_ids[0]),
                "top1_logit": float(row_values[0]),
                "topk_ids": row_ids[kept].tolist(),
                "topk_logits": row_values[kept].tolist(),
            }
        )
    return {
        "id": prompt.id,
        "text": prompt.text,
        "prompt_token_ids": prompt.token_ids[: prompt.prompt_length],
        "steps": steps,
    }


def best_of(prompt: DumpedPrompt, k: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """ids and values [N, k] of the best entries, ties to the lowest id."""
    if prompt.top is not None:
        return prompt.top.ids, prompt.top.values
    if prompt.logits is None:
        raise refusal(path, f"prompt {prompt.id}", "the dump holds tokens only", "choose a format of tokens with --to")
    ids = np.stack([np.argsort(-np.asarray(prompt.logits[row]), kind="stable")[:k] for row in range(len(prompt.logits))])
    return ids, np.stack([np.asarray(prompt.logits[row], np.float64)[chosen] for row, chosen in enumerate(ids)])
