"""The sentence under a failed probe: which known bug its logits are those of."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np

NEEDED = {
    "torch": " (pip install 'logitproof[transformers]')",
    "transformers": " (pip install 'logitproof[transformers]')",
    "logitproof.diagnose": "",
}


def diagnosis_of(folder: Path, sequences: list[list[int]], logits: list[np.ndarray], mode: str) -> str:
    """The diagnosis of `logits` [T, V] of each sequence, or why there is none."""
    for package, remedy in NEEDED.items():
        if importlib.util.find_spec(package) is None:
            return f"not diagnosed: {package} is not installed{remedy}"
    # here, because the mutants that it compares with run on torch, which a passing run never needs
    diagnose = importlib.import_module("logitproof.diagnose")
    return str(diagnose.diagnose_logits(folder, sequences, logits, mode=mode).as_text())
