"""What the acid test catches, what it lets pass, and how long it takes.

* kill: every known bug planted in the reference on every probe; killed where the logits move by ten noise bands.
  Beside it what lesser tests would have seen: greedy text, cosine above 0.99, short prompts, one pass of prefill.
* variants: engines that are right, in many ways of running them; any alarm is false.
* time: the whole acid run of each engine.
* diagnosis: which bug a candidate's logits are named as.

    python benchmarks/acid.py [--part kill variants time diagnosis] [--out benchmarks/results/acid.json]

A part that is not run keeps what the file holds, with its own date. `LOGITPROOF_MLX_PYTHON` names a Python with mlx-lm;
without it that engine is left out.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _acid_kill
import _acid_variants

from logitproof.acid import Request, acid
from logitproof.acid_probe import FACTOR, KILLED_AT, open_probes

ENGINES = ("transformers", "llamacpp", "plain")
SECONDS_ALLOWED = 120


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "acid.json")
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
    for part in options.part:
        print(f"-- {part}", flush=True)
        measured = PARTS[part]()
        if measured:
            result |= measured
            result.setdefault("dates", {})[part] = datetime.datetime.now(datetime.UTC).date().isoformat()
    result |= {
        "benchmark": "acid", "band_factor": FACTOR, "killed_at": KILLED_AT, "machine": machine(),
        "probes": {probe.name: probe.exposes for probe in open_probes()}, "how": (__doc__ or "").split("\n\n    python")[0],
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(table(result))
    return 0


def time_all() -> dict[str, Any]:
    """Seconds of the whole acid run of each engine, and of the slowest."""
    seconds = {engine: round(acid(Request(engine, {})).seconds, 1) for engine in ENGINES}
    return {"acid_seconds": max(seconds.values()), "acid_seconds_by_engine": seconds, "acid_seconds_allowed": SECONDS_ALLOWED}


def diagnosis() -> dict[str, Any]:
    """The figures of the diagnosis, where it is there."""
    if importlib.util.find_spec("_acid_diagnosis") is None:
        print("no benchmark of the diagnosis")
        return {}
    return dict(importlib.import_module("_acid_diagnosis").measure())


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "kill": _acid_kill.measure,
    "variants": _acid_variants.measure_all,
    "time": time_all,
    "diagnosis": diagnosis,
}


def table(result: dict[str, Any]) -> str:
    """The figures, one a line."""
    lesser = result.get("killed_by_lesser_tests", {})
    judged = result.get("mutations", 0) - result.get("equivalent", 0)
    rows = [
        ("bugs planted / equivalent", f"{result.get('mutations')} / {result.get('equivalent')}"),
        ("killed by a probe", f"{result.get('killed')} of {judged}"),
        *((f"  by {name.replace('_', ' ')} alone", f"{count} of {judged}") for name, count in lesser.items()),
        ("good variants / false alarms", f"{result.get('good_variants')} / {result.get('false_alarms')}"),
        ("acid seconds", f"{result.get('acid_seconds')} (at most {SECONDS_ALLOWED})"),
        *((key.replace("_", " "), str(result[key])) for key in DIAGNOSED if key in result),
    ]
    return "\n".join(f"{name:<34}{value}" for name, value in rows)


DIAGNOSED = (
    "diagnosed", "named_right", "named_wrong", "planted_in_llamacpp", "planted_right", "held_out", "held_out_misnamed",
    "diagnose_seconds",
)  # fmt: skip


def machine() -> dict[str, Any]:
    rows = [row.split(":", 1) for row in Path("/proc/cpuinfo").read_text().splitlines() if ":" in row]
    found = {key.strip(): value.strip() for key, value in rows}
    cores = len(os.sched_getaffinity(0))
    return {"cpu": found.get("model name", platform.machine()), "cores": cores, "system": platform.system()}


if __name__ == "__main__":
    sys.exit(main())
