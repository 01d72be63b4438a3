"""Diagnoses of faults that nobody planted with the library: a NumPy engine with faults written by hand.

`make bench-truth` writes results/truth.json. A fault is named right where a right name is alone or among those that these
logits cannot tell apart, wrong alone where another one is named by itself.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _truth_cases import acid_rows, cases
from _truth_engine import DESCRIBED, PAIRS, RIGHT, TOKEN, TRIPLES, Engine

from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.found import Diagnosis, Known
from logitproof.files.sources import sources_sha256

ROOT = Path(__file__).parents[1]
MODEL, OUT = ROOT / "zoo/qwen3", ROOT / "benchmarks/results/truth.json"
SOURCE, PART = ROOT / "src/logitproof", OUT.with_suffix(".part")
"""What diagnoses, and the rows of a run that was stopped."""
FLOAT32 = 24
"""Significant bits of what the bench's engine computes in, as its author would declare it."""
IDS = [np.random.default_rng(seed).integers(100, 1000, 48).tolist() for seed in (1, 2)]
IDS[0][17], IDS[1][29] = TOKEN, TOKEN
ALONE = ("named", "two bugs", "several bugs")


def main() -> None:
    """Diagnose fault after fault; what an earlier run of the same source has measured is not measured again."""
    torch.set_num_threads(1)
    files = [file for name in ("diagnosis", "mutations", "reference") for file in (SOURCE / name).rglob("*.py")]
    source = sources_sha256(sorted([*files, Path(__file__).parent / "_truth_engine.py"]))
    kept = json.loads(PART.read_text()) if PART.is_file() else {}
    rows = kept["rows"] if kept.get("source") == source else []
    right = [Engine(MODEL).score(ids) for ids in IDS]
    assert diagnose_logits(MODEL, IDS, right, noise=Known(bits=FLOAT32)).verdict == "same", "the bench's own engine is wrong"
    for faults in [*((name,) for name in RIGHT), *PAIRS, *((name,) for name in DESCRIBED), *TRIPLES]:
        if list(faults) not in [row["faults"] for row in rows]:
            rows.append(_row(faults))
            print(f"{rows[-1]}", flush=True)
            PART.write_text(json.dumps({"source": source, "rows": rows}))
    proven, answered = acid_rows(), cases()
    counted = _counted(rows) | {
        "acid_rows": len(proven),
        "acid_rows_proven": sum(proven.values()),
        "cases": len(answered),
        "cases_right": sum(answered.values()),
    }
    OUT.write_text(json.dumps(counted | {"rows": rows, "acid": proven, "answered": answered}, indent=1) + "\n")
    PART.unlink()


def _row(faults: Sequence[str]) -> dict[str, Any]:
    logits = [Engine(MODEL, frozenset(faults)).score(ids) for ids in IDS]
    begun = time.monotonic()
    found = diagnose_logits(MODEL, IDS, logits, noise=Known(bits=FLOAT32, wrong=True))
    return {
        "faults": list(faults),
        "verdict": found.verdict,
        "names": found.names,
        "remainder": found.remainder,
        "seen": [finding.kind for finding in found.findings],
        "right": _is_right(faults, found),
        "passes": found.passes,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _is_right(faults: Sequence[str], found: Diagnosis) -> bool:
    if len(faults) == 1 and faults[0] in DESCRIBED:
        return bool({finding.kind for finding in found.findings} & DESCRIBED[faults[0]])
    return all(RIGHT[fault] & set(found.names) for fault in faults)


def _counted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    singles = [row for row in rows if len(row["faults"]) == 1]
    known = [row for row in singles if row["faults"][0] in RIGHT]
    foreign = [row for row in singles if row["faults"][0] in DESCRIBED]
    wrong = [row for row in rows if row["verdict"] in ALONE and not row["right"]]
    return {
        "bugs": len(singles),
        "same_but_wrong": sum(row["verdict"] == "same" for row in rows),
        "known": len(known),
        "named_right": sum(row["right"] for row in known),
        "named_wrong_alone": len(wrong),
        "pairs": sum(len(row["faults"]) == 2 for row in rows),
        "pairs_both_exact": sum(row["right"] for row in rows if len(row["faults"]) == 2),
        "triples": sum(len(row["faults"]) == 3 for row in rows),
        "triples_all_exact": sum(row["right"] for row in rows if len(row["faults"]) == 3),
        "foreign": len(foreign),
        "unexplained_described": sum(row["right"] for row in foreign),
    }


if __name__ == "__main__":
    sys.exit(main())
