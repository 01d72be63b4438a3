"""The format `safetensors_golden`: decode steps with the best log-probabilities of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.safetensors import Tensors, TensorsWriter, is_safetensors, read_header
from logitproof.files.untrusted import AGAIN, refusal
from logitproof.readers import Peek, Reader
from logitproof.readers.llamacpp_fixture import K, best_of
from logitproof.traces.dump import Dump, DumpedPrompt, TopK

OWN = "version."
"""Begins the names of versions among the metadata."""
NEEDED = {"prompt_tokens", "prompt_lens", "decode_tokens", "topk_ids", "topk_logprobs"}
ROUNDING = 1e-6
"""What float32 takes from a log-probability of some nats."""


@dataclass
class SafetensorsGolden(Reader):
    """safetensors of `prompt_tokens`, `prompt_lens` [S], `decode_tokens` [S, D], `topk_ids` and `topk_logprobs` [S, D+1, K].

    `prompt_tokens` is [S, P] padded, or all prompts in one row. Row d predicts decode token d, the last row
    the token after it.
    """

    def recognizes(self, peek: Peek) -> bool:
        if not is_safetensors(peek.head, peek.size):
            return False
        try:
            return set(read_header(peek.path)[0]) >= NEEDED
        except ContractError:
            return False

    def read(self, path: Path) -> Dump:
        file = Tensors(path)
        lengths = file.array("prompt_lens", "iu", 1).astype(np.int64)
        decoded = file.array("decode_tokens", "iu", 2).astype(np.int64)
        ids, values = file.array("topk_ids", "iu", 3).astype(np.int64), file.array("topk_logprobs", "f", 3)
        sequences, steps = decoded.shape
        wanted = (sequences, steps + 1)
        if len(lengths) != sequences or ids.shape[:2] != wanted or ids.shape != values.shape or 0 in ids.shape:
            text = (
                f"{list(ids.shape)} and {list(values.shape)} for {len(lengths)} prompts and decode_tokens {list(decoded.shape)}"
            )
            raise refusal(path, "topk_ids", text, "the shapes are [S, D+1, K] for S prompts and D decode tokens")
        prompts = _prompts(file, lengths, path)
        dumped = []
        for number, prompt in enumerate(prompts):
            positions = len(prompt) - 1 + np.arange(steps + 1)
            top = TopK(ids[number], np.asarray(values[number], np.float64), normalized=True, slack=ROUNDING)
            tokens = [*prompt, *decoded[number].tolist()]
            dumped.append(DumpedPrompt(file.metadata.get(f"id.{number}", str(number)), tokens, len(prompt), positions, top=top))
        stated = file.metadata.get("vocab_size", "")
        versions = {name.removeprefix(OWN): version for name, version in file.metadata.items() if name.startswith(OWN)}
        return Dump(tuple(dumped), int(stated) if stated.isdigit() else None, versions, file.metadata)

    def write(self, dump: Dump, path: Path) -> None:
        steps = {len(prompt.token_ids) - prompt.prompt_length for prompt in dump.prompts}
        if len(steps) != 1:
            raise refusal(path, "decode_tokens", "the continuations differ in length", "choose another format with --to")
        (depth,) = steps
        tables = [_table(prompt, depth, path) for prompt in dump.prompts]
        k = min(ids.shape[1] for ids, _ in tables)
        prompts = [prompt.token_ids[: prompt.prompt_length] for prompt in dump.prompts]
        tokens = np.full((len(prompts), max(map(len, prompts))), 0, np.int32)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
        writer = TensorsWriter(path)
        writer.add("prompt_tokens", tokens)
        writer.add("prompt_lens", np.array([len(prompt) for prompt in prompts], np.int32))
        decoded = [prompt.token_ids[prompt.prompt_length :] for prompt in dump.prompts]
        writer.add("decode_tokens", np.array(decoded, np.int32).reshape(len(prompts), depth))
        writer.add("topk_ids", np.stack([ids[:, :k] for ids, _ in tables]).astype(np.int32))
        writer.add("topk_logprobs", np.stack([values[:, :k] for _, values in tables]).astype(np.float32))
        names = {f"id.{number}": prompt.id for number, prompt in enumerate(dump.prompts)}
        size = {} if dump.vocab_size is None else {"vocab_size": str(dump.vocab_size)}
        writer.finish({**names, **size, **{f"{OWN}{name}": version for name, version in dump.versions.items()}})


def _prompts(file: Tensors, lengths: np.ndarray, path: Path) -> list[list[int]]:
    tokens = file.array("prompt_tokens", "iu")
    if (lengths < 1).any():
        raise refusal(path, "prompt_lens", f"holds {int(lengths.min())}", "every prompt has at least one token")
    if tokens.ndim == 2 and len(tokens) == len(lengths) and lengths.max(initial=0) <= tokens.shape[1]:
        return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    if tokens.ndim == 1 and int(lengths.sum()) == len(tokens):
        return [part.tolist() for part in np.split(np.asarray(tokens), np.cumsum(lengths)[:-1])]
    text = f"{list(tokens.shape)} tokens for prompts of {int(lengths.sum())} in all"
    raise refusal(path, "prompt_tokens", text, f"give [S, P] padded, or all in one row; {AGAIN}")


def _table(prompt: DumpedPrompt, depth: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """ids and log-probabilities [D+1, K] from the prompt's last token on."""
    first = prompt.prompt_length - 1
    rows = np.flatnonzero((prompt.positions >= first) & (prompt.positions <= first + depth))
    if len(rows) != depth + 1:
        raise refusal(path, f"prompt {prompt.id}", "rows of its continuation are missing", "dump every row from its end on")
    if prompt.top is not None:
        if not prompt.top.normalized:
            raise refusal(path, f"prompt {prompt.id}", "has logits, not log-probabilities", "choose another format with --to")
        return prompt.top.ids[rows], prompt.top.values[rows]
    ids, values = best_of(prompt, K, path)
    assert prompt.logits is not None
    for row in rows:
        full = np.asarray(prompt.logits[int(row)], np.float64)
        values[row] -= full.max() + np.log(np.exp(full - full.max()).sum())
    return ids[rows], values[rows]
