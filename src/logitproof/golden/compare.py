"""Two dumps compared, position by position: exactly where both hold whole rows, by bounds where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitproof.comparison.compare import Comparison
from logitproof.comparison.summary import summarize
from logitproof.documents.columns import table_of
from logitproof.errors import ContractError
from logitproof.golden.aligned import aligned
from logitproof.rows.bounds import UNBOUNDED, Floor, Known, known_logits, known_top, measure
from logitproof.rows.distance import first_difference
from logitproof.traces.dump import READ_AS, Dump, DumpedPrompt


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
    return Comparison(table_of(columns), tuple(names))


def compare_dumps(reference: Dump, candidate: Dump, floor: Floor | None = None) -> dict[str, Any]:
    """Statistics over all shared positions of two dumps, in the shape of `capture.compare_captures`, and the basis."""
    paired = aligned(reference, candidate)
    met = list(paired.pairs)
    tables = [compare_prompts(prompt, match, paired.vocab_size, floor) for prompt, match in met]
    values = {name: [table.metrics[name] for table in tables] for name in tables[0].names}
    # A mean over the positions that happen to be bounded would be the mean of the survivors.
    silent = sorted(
        name for name, rows in values.items() if np.isinf(rows_of := np.concatenate(rows)).any() or np.isnan(rows_of).all()
    )
    whole = all(prompt.logits is not None for dump in (reference, candidate) for prompt in dump.prompts)
    return {
        "reference": reference.format,
        "candidate": candidate.format,
        "notes": [
            *_reader_notes(reference, "reference"),
            *_reader_notes(candidate, "candidate"),
            *paired.notes,
            *_shifted(met),
        ],
        "positions": sum(table.positions for table in tables),
        "missing": _missing(met, candidate),
        "kl_basis": "exact" if whole else str(floor) if floor else UNBOUNDED,
        "metrics": {name: summarize(rows, seed=0) for name, rows in values.items() if name not in silent},
        "not_measured": silent,
    }


def _shifted(met: list[tuple[DumpedPrompt, DumpedPrompt]]) -> list[str]:
    """That the logits differ by nothing but a constant of each row, which softmax does not see, with the constants."""
    shifts: list[float] = []
    for prompt, match in met:
        _, left, right = np.intersect1d(prompt.positions, match.positions, return_indices=True)
        if prompt.logits is None or match.logits is None or prompt.logits.shape[1] != match.logits.shape[1]:
            return []
        for a, b in zip(left, right, strict=True):
            reference, candidate = np.asarray(prompt.logits[a], np.float64), np.asarray(match.logits[b], np.float64)
            known = np.isfinite(reference) & np.isfinite(candidate)
            if not known.any():
                return []
            delta = (candidate - reference)[known]
            rounding = float(np.finfo(np.float32).eps) * max(np.abs(reference[known]).max(), np.abs(candidate[known]).max())
            if np.abs(delta - delta.mean()).max() > 4 * rounding:
                return []
            shifts.append(float(delta.mean()) if abs(delta.mean()) > 4 * rounding else 0.0)
    if not any(shifts):
        return []
    low, high = min(shifts), max(shifts)
    by = f"a constant, {low:.6g}" if np.isclose(low, high) else f"a constant of each row, from {low:.6g} to {high:.6g}"
    return [
        f"the logits differ by {by}: log-probabilities are equal, and no gate but one on nmse, cosine or logit would see it"
    ]


def _reader_notes(dump: Dump, side: str) -> list[str]:
    """What the reader made of the file, where that is not plain."""
    return [f"{side}: {text}" for text in dump.provenance.get(READ_AS, ())]


def _missing(met: list[tuple[DumpedPrompt, DumpedPrompt]], candidate: Dump) -> dict[str, int]:
    """What only one of the two dumps holds: rows of the shared prompts by the side that lacks them, and whole prompts."""
    reference_positions = [set(prompt.positions.tolist()) for prompt, _ in met]
    candidate_positions = [set(match.positions.tolist()) for _, match in met]
    return {
        "rows_of_candidate": sum(len(a - b) for a, b in zip(reference_positions, candidate_positions, strict=True)),
        "rows_of_reference": sum(len(b - a) for a, b in zip(reference_positions, candidate_positions, strict=True)),
        "prompts_of_reference": len({prompt.id for prompt in candidate.prompts} - {match.id for _, match in met}),
    }


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
