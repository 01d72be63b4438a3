"""The sentence under a failed probe: which known bug its logits are those of."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np


def diagnosis_of(folder: Path, sequences: list[list[int]], logits: list[np.ndarray], mode: str) -> str:
    """The diagnosis of `logits` [T, V] of each sequence, or why there is none."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return f"not diagnosed: {package} is not installed (pip install 'logitproof[transformers]')"
    from logitproof.diagnose import diagnose_logits

    return diagnose_logits(folder, sequences, logits, mode=mode).as_text()  # type: ignore[arg-type]
