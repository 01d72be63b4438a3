"""What the acid test catches, what it lets pass, and how long it takes.

* kill: every known bug planted in the reference on every probe; killed where the logits move by ten noise bands.
  Beside it what lesser tests would have seen: greedy text, cosine above 0.99, short prompts, one pass of prefill.
* variants: engines that are right, in many ways of running them; any alarm is false.
* time: the whole acid run of each engine.
* diagnosis: which bug a candidate's logits are named as.

    python benchmarks/acid.py [--part kill variants time diagnosis] [--out benchmarks/results/acid.json]

A part that is not run keeps what the file holds, with its own date. MLX is left out where it is not installed
(`logitproof engines install mlx`). The table in docs/acid.md is written from the result.
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
import _acid_page
import _acid_variants

from logitproof.acid.acid import Request, acid
from logitproof.acid.probe import FACTOR, KILLED_AT, open_probes

ENGINES = ("transformers", "llamacpp", "plain")
SECONDS_ALLOWED = 120
RESULT = Path(__file__).parent / "results" / "acid.json"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    dates: dict[str, str] = {}
    for part in options.part:
        print(f"-- {part}", flush=True)
        measured = PARTS[part]()
        if measured:
            found |= measured
            dates[part] = datetime.datetime.now(datetime.UTC).date().isoformat()
    # another process may have measured other parts meanwhile
    result: dict[str, Any] = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
    result |= found | {
        "dates": result.get("dates", {}) | dates,
        "benchmark": "acid", "band_factor": FACTOR, "killed_at": KILLED_AT, "machine": machine(),
        "probes": {probe.name: probe.exposes for probe in open_probes()}, "how": (__doc__ or "").split("\n\n    python")[0],
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print("\n".join(f"{name:<58}{figure}" for name, figure, _ in _acid_page.rows(result, _acid_page.results()[1])))
    if options.out == RESULT:
        _acid_page.write()
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


def machine() -> dict[str, Any]:
    rows = [row.split(":", 1) for row in Path("/proc/cpuinfo").read_text().splitlines() if ":" in row]
    found = {key.strip(): value.strip() for key, value in rows}
    cores = len(os.sched_getaffinity(0))
    return {"cpu": found.get("model name", platform.machine()), "cores": cores, "system": platform.system()}


if __name__ == "__main__":
    sys.exit(main())
