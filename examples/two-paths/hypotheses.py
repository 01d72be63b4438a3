"""Five hypotheses about the legacy path, each with its evidence: which test would confirm it, and what that test said.

    python examples/two-paths/hypotheses.py OUT

OUT/localized is what `localize` says of the legacy path, OUT/suspects of one path for each hypothesis, in which that fault is
planted. A hypothesis is refuted only where its test confirms the planted fault and clears the legacy path on its own input; the
exit code is 1 where one is neither confirmed nor refuted so, or where not exactly one is confirmed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hypothesis:
    """What is suspected, the operations that would be wrong, and the path in which it is planted."""

    text: str
    taps: tuple[str, ...]
    planted: str


HYPOTHESES = (
    Hypothesis("1 the square matrices of Q and O are read transposed", ("attn.q_proj", "attn.out"), "fused"),
    Hypothesis("3 the RoPE base is another", ("attn.q_rope", "attn.k_rope"), "base"),
    Hypothesis("4 scores are scaled by another width", ("attn.scores",), "scale"),
    Hypothesis("5 the weights of QK-norm are broadcast along the heads", ("attn.q", "attn.k"), "broadcast"),
)
"""The second, the converter, is tested by preflight: `converter.parity.yaml`."""


def main() -> int:
    """Print a line a hypothesis."""
    if len(sys.argv) != 2:
        sys.exit("usage: hypotheses.py OUT")
    out = Path(sys.argv[1])
    legacy = broken(out / "localized", "fused")
    confirmed, unproven = 0, 0
    for hypothesis in HYPOTHESES:
        planted = broken(out / "suspects", hypothesis.planted) if hypothesis.planted != "fused" else legacy
        can_confirm = planted == set(hypothesis.taps)
        holds = set(hypothesis.taps) <= legacy
        confirmed += holds
        unproven += not can_confirm
        status = "confirmed" if holds else "refuted" if can_confirm else "not tested"
        print(f"hypothesis {hypothesis.text}: {status}; planted it breaks {sorted(planted)}, the legacy path {sorted(legacy)}")
    return int(unproven > 0 or confirmed != 1)


def broken(folder: Path, path: str) -> set[str]:
    """The operations of the one layer that a path computes otherwise than the reference on the input that they had."""
    file = folder / "localization.json"
    if not file.is_file():
        sys.exit(f"{file} is not there: write it with `logitproof localize ... --out {folder}` (README.md)")
    located = json.loads(file.read_text("utf-8"))["located"]
    (entry,) = (entry for entry in located if Path(entry["name"]).name == path)
    return {tap.removeprefix("layers.0.") for tap in entry["broken"]}


if __name__ == "__main__":
    sys.exit(main())
