"""Diagnoses of faults that nobody planted with the library: a NumPy engine with faults written by hand.

    python benchmarks/truth.py [--seconds N]

`make bench-truth` writes results/truth.json. A fault is named right where a right name is alone or among those that these
logits cannot tell apart, wrong alone where another one is named by itself. A right engine of another arithmetic must be called
the same, or not to be told from noise. Rows are kept as they come: after `--seconds` none is begun, and the next run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _truth_cases import acid_rows, cases
from _truth_engine import TOKEN, Engine
from _truth_faults import DESCRIBED, ODD, PAIRS, RIGHT, TRIPLES

from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.found import Diagnosis, Known
from logitproof.diagnosis.text import sentence
from logitproof.files.sources import sources_sha256

ROOT = Path(__file__).parents[1]
MODELS, OUT = {"": ROOT / "zoo/qwen3", "experts": ROOT / "zoo/qwen3-moe"}, ROOT / "benchmarks/results/truth.json"
SOURCE, PART = ROOT / "src/logitproof", OUT.with_suffix(".part")
"""What diagnoses, and the rows of a run that was stopped."""
FLOAT32 = 24
"""Significant bits of what the bench's engine computes in, as its author would declare it."""
IDS = [np.random.default_rng(seed).integers(100, 1000, 48).tolist() for seed in (1, 2)]
IDS[0][17], IDS[1][29] = TOKEN, TOKEN
IDS[0][30], IDS[1][40] = IDS[0][4], IDS[1][9]
ALONE = ("named", "two bugs", "several bugs")


def main() -> None:
    """Diagnose fault after fault; what an earlier run of the same source has measured is not measured again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    until = time.monotonic() + parser.parse_args().seconds
    torch.set_num_threads(1)
    files = [file for name in ("diagnosis", "mutations", "reference") for file in (SOURCE / name).rglob("*.py")]
    source = sources_sha256(sorted([*files, *Path(__file__).parent.glob("_truth_[ef]*.py")]))
    kept = json.loads(PART.read_text()) if PART.is_file() else {}
    rows = kept["rows"] if kept.get("source") == source else []
    for faults in [*((name,) for name in (*RIGHT, *DESCRIBED, *ODD)), *PAIRS, *TRIPLES, ()]:
        if list(faults) not in [row["faults"] for row in rows]:
            if time.monotonic() > until:
                sys.exit("not all rows are measured: run it again")
            rows.append(_row(faults))
            print(f"{rows[-1]}", flush=True)
            PART.write_text(json.dumps({"source": source, "rows": rows}))
    assert rows[-1]["verdict"] == "same", "the bench's own engine is wrong"
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
    """The diagnosis of an engine with these faults, in the model and mode that stand before the first one's colon."""
    where = faults[0].partition(":")[0] if any(":" in fault for fault in faults) else ""
    model, mode = MODELS["experts" if where == "experts" else ""], "decode" if where == "decode" else "prefill"
    engine = Engine(model, frozenset(fault.rpartition(": ")[2] for fault in faults))
    logits = [engine.score(ids, mode) for ids in IDS]
    odd = bool(faults) and faults[0] in ODD
    known = Known(bits=ODD[faults[0]] if odd else FLOAT32, wrong=bool(faults) and not odd)
    if mode == "decode":
        known = replace(known, other=[engine.score(ids) for ids in IDS])
    begun = time.monotonic()
    found = diagnose_logits(model, IDS, logits, mode="decode" if mode == "decode" else "prefill", noise=known)
    return {
        "faults": list(faults),
        "verdict": found.verdict,
        "said": sentence(found),
        "names": found.names,
        "remainder": found.remainder,
        "seen": [finding.text for finding in found.findings],
        "right": _is_right(faults, found),
        "passes": found.passes,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _is_right(faults: Sequence[str], found: Diagnosis) -> bool:
    if not faults or faults[0] in ODD:
        return found.verdict in ("same", "below noise")
    if len(faults) == 1 and faults[0] in DESCRIBED:
        return found.verdict not in ALONE and bool({finding.kind for finding in found.findings} & DESCRIBED[faults[0]])
    return all(RIGHT[fault] & set(found.names) for fault in faults)


def _counted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    singles = [row for row in rows if len(row["faults"]) == 1 and row["faults"][0] not in ODD]
    known = [row for row in singles if row["faults"][0] in RIGHT]
    foreign = [row for row in singles if row["faults"][0] in DESCRIBED]
    wrong = [row for row in rows if row["verdict"] in ALONE and not row["right"]]
    odd = [row for row in rows if len(row["faults"]) == 1 and row["faults"][0] in ODD]
    return {
        "bugs": len(singles),
        "same_but_wrong": sum(row["verdict"] == "same" for row in [*singles, *(row for row in rows if len(row["faults"]) > 1)]),
        "known": len(known),
        "named_right": sum(row["right"] for row in known),
        "named_wrong_alone": len(wrong),
        "pairs": sum(len(row["faults"]) == 2 for row in rows),
        "pairs_both_exact": sum(row["right"] for row in rows if len(row["faults"]) == 2),
        "triples": sum(len(row["faults"]) == 3 for row in rows),
        "triples_all_exact": sum(row["right"] for row in rows if len(row["faults"]) == 3),
        "foreign": len(foreign),
        "unexplained_described": sum(row["right"] for row in foreign),
        "odd_arithmetic": len(odd),
        "odd_called_right": sum(row["right"] for row in odd),
    }


if __name__ == "__main__":
    sys.exit(main())
