"""Two dumps brought to the prompts, positions and entries that both have: rows of padding and a padded vocabulary are cut off.

They are recognized by token ids and by their values, never by a file's name, and each cut is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from logitproof.errors import ContractError
from logitproof.traces.dump import CodedRows, Dump, DumpedPrompt, Rows, blocks


@dataclass(frozen=True)
class Aligned:
    """Pairs of prompts with one list of tokens each, the vocabulary of both, and what was cut off."""

    pairs: tuple[tuple[DumpedPrompt, DumpedPrompt], ...]
    vocab_size: int | None
    notes: tuple[str, ...]


def aligned(reference: Dump, candidate: Dump) -> Aligned:
    """Every prompt of the reference with the candidate's of the same tokens, padding cut off.

    Raises ContractError where a prompt has no partner, or where entries beyond the smaller vocabulary are no padding.
    """
    notes: list[str] = []
    sizes = _size(reference), _size(candidate)
    known = [size for size in sizes if size is not None]
    vocab_size = min(known, default=None)
    pairs = []
    for prompt in reference.prompts:
        left, right = _same_tokens(prompt, _partner(prompt, candidate), notes)
        if vocab_size is not None:
            left, right = _cut(left, vocab_size, "reference", notes), _cut(right, vocab_size, "candidate", notes)
        pairs.append((left, right))
    return Aligned(tuple(pairs), vocab_size, tuple(dict.fromkeys(notes)))


def _size(dump: Dump) -> int | None:
    if dump.vocab_size is not None:
        return dump.vocab_size
    return next((prompt.logits.shape[1] for prompt in dump.prompts if prompt.logits is not None), None)


def _partner(prompt: DumpedPrompt, candidate: Dump) -> DumpedPrompt:
    """The candidate's rows of the same tokens, whatever they are called; else those of the same name, which are then refused.

    A row depends on the tokens up to its own, so one of two dumps may go on where the other ends, and padding may precede it.
    """
    for partner in candidate.prompts:
        if partner.token_ids == prompt.token_ids:
            return partner
    for partner in candidate.prompts:
        common = min(len(partner.token_ids), len(prompt.token_ids))
        shared = np.intersect1d(partner.positions, prompt.positions)
        if common and partner.token_ids[:common] == prompt.token_ids[:common] and len(shared) and shared[-1] < common:
            return partner
    for partner in candidate.prompts:
        if _place(prompt.token_ids, partner.token_ids) or _place(partner.token_ids, prompt.token_ids):
            return partner
    named = next((partner for partner in candidate.prompts if partner.id == prompt.id), None)
    if named is None and len(candidate.prompts) == 1:
        named = candidate.prompts[0]
    if named is None:
        known = ", ".join(partner.id for partner in candidate.prompts)
        text = f"the candidate holds no prompt of the tokens of {prompt.id!r}, and none of that name"
        raise ContractError(text, remedy=f"dump the same prompts; it holds {known}")
    return named


def _same_tokens(reference: DumpedPrompt, candidate: DumpedPrompt, notes: list[str]) -> tuple[DumpedPrompt, DumpedPrompt]:
    """Both on the tokens of the shorter one, where the longer one has them with padding before or behind."""
    if reference.token_ids == candidate.token_ids or not reference.token_ids or not candidate.token_ids:
        return reference, candidate
    sizes = len(reference.token_ids), len(candidate.token_ids)
    if (at := _place(reference.token_ids, candidate.token_ids)) is not None and _is_padded(candidate, at, sizes[0]):
        return reference, _part(candidate, at, sizes[0], "candidate", notes)
    if (at := _place(candidate.token_ids, reference.token_ids)) is not None and _is_padded(reference, at, sizes[1]):
        return _part(reference, at, sizes[1], "reference", notes), candidate
    return reference, candidate


def _place(short: Sequence[int], long: Sequence[int]) -> int | None:
    """Where the short one begins in the long one: behind nothing, or behind one token again and again; None elsewhere.

    Rows of a causal model do not see what stands behind, so that anything may; what stands before must be padding.
    """
    before = 0
    while before + len(short) <= len(long):
        if list(long[before : before + len(short)]) == list(short):
            return before
        if long[before] != long[0]:
            return None
        before += 1
    return None


def _is_padded(prompt: DumpedPrompt, start: int, count: int) -> bool:
    """Whether what stands behind is padding, and no prompt that goes on: one token several times, or rows without any shape."""
    behind = prompt.token_ids[start + count :]
    if len(set(behind)) > 1:
        return False
    rows = (
        [] if prompt.logits is None else [prompt.logits[int(row)] for row in np.flatnonzero(prompt.positions >= start + count)]
    )
    return len(behind) != 1 or (bool(rows) and all(float(row.max()) == float(row.min()) for row in rows))


def _part(prompt: DumpedPrompt, start: int, count: int, side: str, notes: list[str]) -> DumpedPrompt:
    """The rows of `count` tokens from `start`, as a prompt of its own."""
    kept = (prompt.positions >= start) & (prompt.positions < start + count)
    first, last = (int(np.argmax(kept)), int(len(kept) - np.argmax(kept[::-1]))) if kept.any() else (0, 0)
    padding = len(prompt.token_ids) - count
    notes.append(
        f"{side}, prompt {prompt.id}: {padding} of {len(prompt.token_ids)} tokens are not the other's "
        f"({start} before, {padding - start} behind); compared on the {count} that both have"
    )
    top = prompt.top
    if top is not None:
        tail = None if top.log_tail is None else top.log_tail[first:last]
        top = replace(top, ids=top.ids[first:last], values=top.values[first:last], log_tail=tail)
    rows = None if prompt.logits is None else prompt.logits[first:last]
    tokens = prompt.token_ids[start : start + count]
    return DumpedPrompt(prompt.id, tokens, min(prompt.prompt_length, count), prompt.positions[first:last] - start, rows, top)


def _cut(prompt: DumpedPrompt, size: int, side: str, notes: list[str]) -> DumpedPrompt:
    """Without the entries beyond the other's vocabulary, where these are padding: one value, or -inf, in a whole row."""
    if prompt.logits is None or prompt.logits.shape[1] <= size:
        return prompt
    extra, rows = prompt.logits.shape[1] - size, prompt.logits
    if not _is_padding(rows, size):
        text = f"a vocabulary of {prompt.logits.shape[1]}, the other has {size}, and the {extra} entries beyond are no padding"
        raise ContractError(text, where=f"{side}, prompt {prompt.id}", remedy="both dumps must be of one model")
    notes.append(f"{side}: the last {extra} of {size + extra} entries of every row are padding; compared on {size}")
    whole = rows[: len(rows)] if isinstance(rows, CodedRows) else rows
    return replace(prompt, logits=np.asarray(whole)[:, :size])


def _is_padding(rows: Rows, size: int) -> bool:
    return all(bool((part[:, size:] == part[:, size : size + 1]).all()) for _, part in blocks(rows))
