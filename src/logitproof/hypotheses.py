"""Which known bug makes the candidate's tensor of its own input: every one that touches the tap is tried there.

Unlike a diagnosis from logits, nothing before the operation and nothing after it blurs the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog, taps
from logitproof.diagnose import PREFILL_NEEDS, grid, load_reference
from logitproof.localize import LIMIT, Precision, expected, relative


@dataclass(frozen=True)
class Hypothesis:
    """One known bug at one tap: how far its tensor is from the candidate's, relative."""

    tap: str
    mutation: str
    options: Mapping[str, Any]
    residual: float
    explains: bool
    remedy: str

    def __str__(self) -> str:
        shown = ", ".join(f"{key} = {value}" for key, value in self.options.items())
        return f"{self.mutation}{f' ({shown})' if shown else ''}"


def hypotheses(
    model: Path,
    token_ids: Sequence[int],
    candidate: Mapping[str, np.ndarray],
    broken: Sequence[str],
    precision: Precision,
    *,
    weights: Path | None = None,
) -> list[Hypothesis]:
    """Every bug that changes one of the broken taps, the best first for each tap. Needs transformers.

    `model` is an HF folder, `weights` the GGUF file whose weights the candidate computes with, if they are not the folder's.
    """
    import torch

    from logitproof.engines._taps import Taps, Watch, tapped

    reference = load_reference(model, weights)
    watch = Watch(reference)
    ids = torch.tensor([list(token_ids)])

    def replay() -> dict[str, np.ndarray]:
        flow = Taps(list(broken), candidate)
        flow.length = len(token_ids)
        with torch.inference_mode(), tapped(reference, watch, flow):
            flow.at("logits", reference(ids, use_cache=False).logits[0])
        return flow.found()

    right = replay()
    found: list[Hypothesis] = []
    for name in catalog.entries("mutations"):
        kind = catalog.load("mutations", name)
        if kind.needs not in PREFILL_NEEDS:
            continue
        for options in grid(kind):
            mutation = kind(**options)
            try:
                if not mutation.applies(reference.config):
                    break
                with mutation.applied_to(reference):
                    wrong = replay()
            except Exception:  # noqa: S112 -- a bug that cannot be planted here is no hypothesis
                continue
            found += _tried(name, options, kind.remedy, broken, right, wrong, candidate, precision)
    watch.close()
    best: dict[tuple[str, str], Hypothesis] = {}
    for one in sorted(found, key=lambda one: one.residual):
        best.setdefault((one.tap, one.mutation), one)
    return sorted(best.values(), key=lambda one: (taps.order(one.tap), one.residual))


def _tried(
    name: str,
    options: Mapping[str, Any],
    remedy: str,
    broken: Sequence[str],
    right: Mapping[str, np.ndarray],
    wrong: Mapping[str, np.ndarray],
    candidate: Mapping[str, np.ndarray],
    precision: Precision,
) -> list[Hypothesis]:
    made = []
    for tap in broken:
        leaf = taps.split(tap)[1]
        limit = LIMIT * expected(leaf, precision)
        if tap not in wrong or tap not in right or wrong[tap].size != right[tap].size:
            continue
        if wrong[tap].size != candidate[tap].size or relative(wrong[tap], right[tap], leaf) <= limit:
            continue
        residual = relative(wrong[tap], candidate[tap], leaf)
        made.append(Hypothesis(tap, name, options, residual, residual <= limit, remedy))
    return made
