"""One run of the soak, as a process: CONTRACT STORE PARALLEL OUT. Writes what it came to and what it held on the way."""

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from logitproof.contract.opened import open_contract
from logitproof.jobs.progress import Progress
from logitproof.report.report import Report
from logitproof.runs.check import check
from logitproof.traces.store import Store

SAMPLES = 200


def main() -> None:
    contract, store, parallel, out = sys.argv[1:]
    samples: list[dict[str, Any]] = []
    last = 0

    def on_progress(progress: Progress) -> None:
        nonlocal last
        if progress.done - last >= progress.total / SAMPLES or progress.done == progress.total:
            last = progress.done
            samples.append({"done": progress.done, **held()})

    begin = time.monotonic()
    report = check(open_contract(Path(contract)), Store(Path(store)), parallel=int(parallel), on_progress=on_progress)
    judged = held()
    result = {"seconds": round(time.monotonic() - begin, 1), "samples": samples, "after": judged, "verdict": verdict(report)}
    Path(out).write_text(json.dumps(result), "utf-8")


def held() -> dict[str, float]:
    """Memory in MB, open files and mappings of this process, and its children."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    maps = Path("/proc/self/maps").read_text().count("\n")
    memory = {key: int(status[name].split()[0]) / 1024 for key, name in (("rss_mb", "VmRSS"), ("own_mb", "RssAnon"))}
    return {**memory, "files": len(os.listdir("/proc/self/fd")), "maps": maps, "children": len(children)}


def verdict(report: Report) -> dict[str, Any]:
    """What a verdict says of every cell, by numbers that add up."""
    cells = {
        cell.cell.id: {
            "status": cell.status,
            "positions": cell.positions,
            "counts": dict(cell.counts),
            "planned": cell.coverage.planned,
            "prompts": len(cell.prompts),
            "kl_sum": cell.metrics["kl_divergence"]["mean"] * cell.metrics["kl_divergence"]["count"],
            "kl_max": cell.metrics["kl_divergence"]["max"],
        }
        for cell in report.verdict.cells
    }
    return {"status": report.verdict.status, "exit_code": report.verdict.exit_code, "cells": cells}


if __name__ == "__main__":
    main()
