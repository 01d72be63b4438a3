"""One engine on several instruction sets: what each computed with, by its own words, and how far apart they are.

Runs examples/isa.parity.yaml (`make isa neon` builds what it needs) and keeps a row for every cell, those too that this
machine cannot run.

    python benchmarks/isa.py [--out benchmarks/results/isa.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import _page

from logitproof.contract.isa import INSTRUCTION_SETS, lacking
from logitproof.contract.opened import open_contract
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.runs.check import check
from logitproof.traces.store import Store

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/isa.json"
PROVES = ("isa.matmul", "isa.features of CPU", "isa.backend", "isa.weights", "isa.aten", "isa.onednn")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contract", type=Path, default=ROOT / "examples/isa.parity.yaml")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="logitproof-isa-") as folder:
        report = check(open_contract(asked.contract), Store(Path(folder)))
        rows = cells(report)
    measured = {isa for row in rows if row["evidence"] for isa in row["evidence"]}
    found = {
        "status": report.verdict.status,
        "host": [isa for isa in INSTRUCTION_SETS if not lacking(isa)],
        "measured": sorted(measured),
        "cells": rows,
    }
    write_atomically(asked.out, json.dumps(found, indent=1) + "\n")
    print(table(rows))
    if asked.out == RESULT:
        _page.write("isa.md", "bench", markdown(found))
    return 0 if report.verdict.status == "PASS" else 1


def cells(report: Report) -> list[dict[str, Any]]:
    """A row for every cell of the matrix: against the reference, or of a pair against the same engine."""
    rows = []
    for cell in report.as_json()["cells"]:
        metrics = cell["metrics"]
        evidence = {
            isa: {source: texts for source, texts in said.items() if source in PROVES} for isa, said in cell["evidence"].items()
        }
        rows.append(
            {
                "cell": cell["id"],
                "engine": cell["engine"],
                "isa": cell["isa"],
                "against": cell["reference"],
                "status": cell["status"],
                "mean_kl": metrics.get("kl_divergence", {}).get("mean"),
                "mean_rms": metrics.get("rms_delta_logit", {}).get("mean"),
                "max_rms": metrics.get("rms_delta_logit", {}).get("max"),
                "positions": cell["positions"],
                "evidence": evidence,
                "reason": cell["reason"],
            }
        )
    for one in report.verdict.unmeasured:
        candidate, _, _, _, isa = one.cell.split("/")
        rows.append(
            {
                "cell": one.cell,
                "engine": candidate,
                "isa": isa,
                "status": "NOT-MEASURED",
                "evidence": {},
                "reason": one.reason,
                "allowed": report.is_allowed(one),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """One line a cell."""
    lines = []
    for row in rows:
        figures = f"KL {row['mean_kl']:.2e}  RMS {row['mean_rms']:.2e}" if row.get("mean_kl") is not None else row["reason"]
        lines.append(f"{row['status']:<13} {row['cell']:<46} {figures}")
    return "\n".join(lines)


def markdown(result: dict[str, Any]) -> str:
    """The table in docs/isa.md."""
    shown = [
        (
            f"`{row['cell']}`",
            row["status"],
            f"{row['mean_kl']:.1e}" if row.get("mean_kl") is not None else "–",
            f"{row['mean_rms']:.1e}" if row.get("mean_rms") is not None else "–",
            "; ".join(sorted({text for said in row["evidence"].values() for texts in said.values() for text in texts}))
            or row["reason"],
        )
        for row in result["cells"]
    ]
    return _page.table(("cell", "status", "mean KL, nats", "mean RMS, logits", "evidence, or why there is none"), shown)


if __name__ == "__main__":
    sys.exit(main())
