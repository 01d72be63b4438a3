"""Two dumps compared, position by position: exactly where both hold whole rows, by bounds where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from logitproof.comparison.compare import Comparison
from logitproof.comparison.summary import summarize
from logitproof.errors import ContractError
from logitproof.rows.bounds import UNBOUNDED, Floor, Known, known_logits, known_top, measure
from logitproof.rows.distance import first_difference
from logitproof.traces.dump import Dump, DumpedPrompt


def compare_prompts(
    reference: DumpedPrompt, candidate: DumpedPrompt, vocab_size: int | None, floor: Floor | None = None
) -> Comparison:
    """The positions that both dumps hold, as a comparison: bounds of KL, and what the best entries settle.

    `kl_divergence` is filled only where both rows are whole; metrics that need the whole vocabulary and
    have only part of it are NaN: not measured. Raises ContractError where the tokens differ or nothing is shared.
    """
    shared, left, right = np.intersect1d(reference.positions, candidate.positions, return_indices=True)
    if not len(shared):
        raise ContractError(
            "no position stands in both dumps", where=f"prompt {reference.id}", remedy="dump the same positions"
        )
    _refuse_other_tokens(reference, candidate, int(shared[-1]) + 1)
    rows = []
    for position, a, b in zip(shared.tolist(), left, right, strict=True):
        known = _known(reference, a, vocab_size), _known(candidate, b, vocab_size)
        following = reference.token_ids[position + 1] if position + 1 < len(reference.token_ids) else -1
        rows.append({"position": position, "label": following, **measure(*known, following, floor)})
    names = [name for name in rows[0] if name not in ("position", "label")]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Comparison(pa.table(columns), tuple(names))


def compare_dumps(reference: Dump, candidate: Dump, floor: Floor | None = None) -> dict[str, Any]:
    """Statistics over all shared positions of two dumps, in the shape of `capture.compare_captures`, and the basis."""
    vocab_size = reference.vocab_size or candidate.vocab_size
    if candidate.vocab_size not in (None, vocab_size):
        text = f"a vocabulary of {candidate.vocab_size}, the reference has {vocab_size}"
        raise ContractError(text, where="candidate", remedy="both dumps must be of one model")
    tables, met = [], []
    for prompt in reference.prompts:
        met.append((prompt, _match(prompt, candidate)))
        tables.append(compare_prompts(*met[-1], vocab_size, floor))
    values = {name: [table.metrics[name] for table in tables] for name in tables[0].names}
    # A mean over the positions that happen to be bounded would be the mean of the survivors.
    silent = sorted(
        name for name, rows in values.items() if np.isinf(rows_of := np.concatenate(rows)).any() or np.isnan(rows_of).all()
    )
    whole = all(prompt.logits is not None for dump in (reference, candidate) for prompt in dump.prompts)
    return {
        "reference": reference.format,
        "candidate": candidate.format,
        "positions": sum(table.positions for table in tables),
        "missing": _missing(met, candidate),
        "kl_basis": "exact" if whole else str(floor) if floor else UNBOUNDED,
        "metrics": {name: summarize(rows, seed=0) for name, rows in values.items() if name not in silent},
        "not_measured": silent,
    }


def _missing(met: list[tuple[DumpedPrompt, DumpedPrompt]], candidate: Dump) -> dict[str, int]:
    """What only one of the two dumps holds: rows of the shared prompts by the side that lacks them, and whole prompts."""
    ours = [set(prompt.positions.tolist()) for prompt, _ in met]
    theirs = [set(match.positions.tolist()) for _, match in met]
    return {
        "rows_of_candidate": sum(len(a - b) for a, b in zip(ours, theirs, strict=True)),
        "rows_of_reference": sum(len(b - a) for a, b in zip(ours, theirs, strict=True)),
        "prompts_of_reference": len({prompt.id for prompt in candidate.prompts} - {match.id for _, match in met}),
    }


def _match(prompt: DumpedPrompt, candidate: Dump) -> DumpedPrompt:
    """The candidate's rows of the same tokens, whatever they are called; else those of the same name, which are then refused.

    A row depends on the tokens up to its own, so one of two dumps may go on where the other ends.
    """
    for other in candidate.prompts:
        if other.token_ids == prompt.token_ids:
            return other
    for other in candidate.prompts:
        common = min(len(other.token_ids), len(prompt.token_ids))
        shared = np.intersect1d(other.positions, prompt.positions)
        if common and other.token_ids[:common] == prompt.token_ids[:common] and len(shared) and shared[-1] < common:
            return other
    named = next((other for other in candidate.prompts if other.id == prompt.id), None)
    if named is None and len(candidate.prompts) == 1:
        named = candidate.prompts[0]
    if named is None:
        known = ", ".join(other.id for other in candidate.prompts)
        text = f"the candidate holds no prompt of the tokens of {prompt.id!r}, and none of that name"
        raise ContractError(text, remedy=f"dump the same prompts; it holds {known}")
    return named


def _known(prompt: DumpedPrompt, row: int, vocab_size: int | None) -> Known:
    """What a dump says about one of its positions."""
    if prompt.logits is not None:
        return known_logits(prompt.logits[row])
    if prompt.top is None:
        raise ContractError("holds tokens only, so there is nothing to compare", where=f"prompt {prompt.id}")
    top = prompt.top
    kept = top.ids[row] >= 0
    ids, values = top.ids[row][kept], top.values[row][kept]
    hidden = None if vocab_size is None else vocab_size - len(ids)
    stated = None if top.log_tail is None else float(top.log_tail[row])
    return known_top(ids, values, hidden=hidden, normalized=top.normalized, slack=top.slack, log_tail=stated)


def _refuse_other_tokens(reference: DumpedPrompt, candidate: DumpedPrompt, count: int) -> None:
    """Tokens that differ among the first `count`, which the shared rows depend on."""
    left, right = reference.token_ids, candidate.token_ids
    if left[:count] != right[:count]:
        at = first_difference(left, right)
        raise ContractError(
            f"the dumps are of other tokens: from index {at} the reference has {left[at : at + 4]}, "
            f"the candidate {right[at : at + 4]} ({len(left)} against {len(right)} tokens)",
            where=f"prompt {reference.id}",
            remedy="score the very tokens of the reference",
        )
