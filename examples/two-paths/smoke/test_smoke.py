"""The smallest test that an engine's repository can have: the rows of both paths against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from logitproof import compare

OUT = Path(__file__).parents[3] / "runs" / "examples" / "two-paths"


def test_the_fused_path_is_known_to_be_another() -> None:
    simple, fused = (np.load(OUT / name / "rows.npy") for name in ("simple", "fused"))
    found = compare(simple, fused, labels=np.full(len(simple), -1))
    assert found.metrics["kl_divergence"].max() > 1e-2
