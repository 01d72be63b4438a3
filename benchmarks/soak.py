"""Many prompts through tiny engines, eight at once: is what the harness holds flat, and the whole the sum of its parts?

    python benchmarks/soak.py [--prompts 10000] [--engines 8] [--parts 10]      make bench-soak

One contract of all prompts is checked, and what its process holds is taken on the way: memory of its own, open files, mappings,
children. A line through the second half says how much each further trace costs; `flat` holds where that is at most BOUNDS. Then
each part of the prompts is checked by itself over the same store, and their sums are laid beside the whole.
Writes benchmarks/results/soak.json, unless --out names another file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
BASIS = "far above the noise of the engines, far below a fault"
BOUNDS = {"own_kb": 12.0, "files": 0.001, "maps": 0.01, "children": 0.001}
"""For each further trace: kB of memory that is the harness's own (its job, its result, its tokens), and handles."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--engines", type=int, default=8, help="the reference among them")
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/soak.json")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), wanted.prompts, wanted.engines, wanted.parts)
    wanted.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1))
    return 0 if result["flat"] and result["verdict_is_sum_of_parts"] else 1


def soak(folder: Path, prompts: int, engines: int, parts: int) -> dict[str, Any]:
    """The whole run, then its parts over the same store."""
    (folder / "toy.json").write_text('{"vocab_size": 300, "seed": 1}', "utf-8")
    whole = _run(_contract(folder, "whole", range(prompts), engines), folder, engines)
    bounds = np.linspace(0, prompts, parts + 1).astype(int)
    names = [f"part-{number}" for number in range(parts)]
    pieces = [
        _run(_contract(folder, name, range(begin, end), engines), folder, engines)
        for name, begin, end in zip(names, bounds[:-1], bounds[1:], strict=True)
    ]
    costs = {f"{name}_a_trace": round(value, 5) for name, value in _slopes(whole["samples"]).items()}
    is_sum = _is_sum(whole["verdict"], [piece["verdict"] for piece in pieces])
    return {
        "prompts": prompts,
        "engines": engines,
        "traces": whole["samples"][-1]["done"],
        "positions": sum(cell["positions"] for cell in whole["verdict"]["cells"].values()),
        "seconds": whole["seconds"],
        "status": whole["verdict"]["status"],
        **costs,
        "bounds": BOUNDS,
        "flat": all(costs[f"{name}_a_trace"] <= bound for name, bound in BOUNDS.items()),
        "peak": {name: max(sample[name] for sample in whole["samples"]) for name in ("rss_mb", "files", "maps", "children")},
        "after": whole["after"],
        "parts": parts,
        "verdict_is_sum_of_parts": is_sum,
        "samples": whole["samples"][:: max(len(whole["samples"]) // 20, 1)],
    }


def _contract(folder: Path, name: str, prompts: range, engines: int) -> Path:
    """A contract of toys over these prompts; one engine is wrong, as a control that must be caught everywhere."""
    texts = [{"id": f"p{number}", "text": f"prompt {number}"} for number in prompts]
    candidates: dict[str, Any] = {
        f"mine{number}": {"engine": "toy", "options": {"noise": 1e-6 * number}} for number in range(1, engines - 1)
    }
    candidates["planted"] = {"engine": "toy", "options": {"noise": 0.5}, "expect": "WRONG"}
    words = {
        "contract": name,
        "reference": {"engine": "toy"},
        "candidates": candidates,
        "models": {"m": {"original": "toy.json"}},
        "suites": [f"{name}.yaml"],
        "matrix": {"mode": ["prefill"]},
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": BASIS}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"suite": "s", "max_new_tokens": 1, "prompts": texts}), "utf-8")
    path = folder / f"{name}.parity.yaml"
    path.write_text(yaml.safe_dump(words, sort_keys=False), "utf-8")
    return path


def _run(contract: Path, folder: Path, parallel: int) -> dict[str, Any]:
    out = folder / "out.json"
    script = Path(__file__).with_name("_soak_run.py")
    argv = [sys.executable, str(script), str(contract), str(folder / "store"), str(parallel), str(out)]
    subprocess.run(argv, check=True)
    result: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return result


def _slopes(samples: list[dict[str, Any]]) -> dict[str, float]:
    """By least squares over the second half: what each further trace costs."""
    half = samples[len(samples) // 2 :]
    done = np.array([sample["done"] for sample in half], np.float64)
    columns = {"own_kb": ("own_mb", 1024.0), "files": ("files", 1.0), "maps": ("maps", 1.0), "children": ("children", 1.0)}
    return {
        name: float(np.polyfit(done, [sample[key] * unit for sample in half], 1)[0]) for name, (key, unit) in columns.items()
    }


def _is_sum(whole: dict[str, Any], parts: list[dict[str, Any]]) -> bool:
    """Whether counts and sums of every cell are those of the parts together, and its status theirs."""
    for name, cell in whole["cells"].items():
        pieces = [part["cells"][name] for part in parts]
        for key in ("positions", "planned", "prompts"):
            if cell[key] != sum(piece[key] for piece in pieces):
                return False
        statuses = {status for piece in [cell, *pieces] for status in piece["counts"]}
        if any(cell["counts"].get(status, 0) != sum(p["counts"].get(status, 0) for p in pieces) for status in statuses):
            return False
        if not np.isclose(cell["kl_sum"], sum(piece["kl_sum"] for piece in pieces), rtol=1e-12):
            return False
        if cell["kl_max"] != max(piece["kl_max"] for piece in pieces):
            return False
        if {piece["status"] for piece in pieces} != {cell["status"]}:
            return False
    return {part["status"] for part in parts} == {whole["status"]}


if __name__ == "__main__":
    sys.exit(main())
