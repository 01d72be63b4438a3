"""Damaged files into every reader of files from outside, and damaged answers into every border to an engine.

Each is read or refused, at once, and memory stays bounded. libFuzzer chooses what to change by the branches that an input takes
(see _fuzz_guided.py); the inputs that took new ones are kept in .cache/fuzz, and the next run begins with them.

    python benchmarks/fuzz.py [--seconds 1500] [--seed 1]     all targets, in turn
    python benchmarks/fuzz.py --only gguf --seed 2 --add      one, added to what is written

Writes benchmarks/results/fuzz.json: {inputs, uncaught, hangs, peak_mb, targets, seeds}.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _fuzz_targets as fuzz

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/fuzz.json"
CORPUS = ROOT / ".cache/fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1500, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--add", action="store_true", help="add to the result that is there")
    parser.add_argument("--only", nargs="*", default=[], help="names of targets")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = [target.name for target in fuzz.targets(Path(folder, "samples"))]
        chosen = [name for name in names if not wanted.only or name in wanted.only]
        slices = {name: _slice(name, wanted.seconds / len(chosen), wanted.seed, Path(folder)) for name in chosen}
    _write(slices, wanted.seed, add=wanted.add)
    faults = [fault for part in slices.values() for fault in part["uncaught"]]
    for fault, count in collections.Counter(faults).most_common():
        print(f"{count} × {fault}")
    return 1 if faults or any(part["hangs"] for part in slices.values()) else 0


def _slice(name: str, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """One target for some seconds; RuntimeError where its process died, which is the worst that a reader can do."""
    corpus, out = CORPUS / name, folder / "slice.json"
    corpus.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    words = [sys.executable, Path(__file__).with_name("_fuzz_guided.py"), name, str(seconds), str(seed), corpus, out]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    if not out.is_file():
        raise RuntimeError(f"{name}: its process ended with {done.returncode}: {done.stderr[-2000:]}")
    part: dict[str, Any] = json.loads(out.read_text("utf-8"))
    counts = f"{part['inputs']} inputs, {part['refused']} refused, {len(part['uncaught'])} uncaught, {part['hangs']} hung"
    print(f"{name}: {counts}", flush=True)
    return part


def _write(slices: dict[str, Any], seed: int, *, add: bool) -> None:
    old = json.loads(RESULT.read_text("utf-8")) if add and RESULT.is_file() else {}
    targets = old.get("targets", {})
    for name, part in slices.items():
        known = targets.get(name)
        targets[name] = {key: _both(key, known[key], value) for key, value in part.items()} if known else part
    result = {
        "inputs": sum(part["inputs"] for part in targets.values()),
        "uncaught": sum(len(part["uncaught"]) for part in targets.values()),
        "hangs": sum(part["hangs"] for part in targets.values()),
        "peak_mb": max(part["peak_mb"] for part in targets.values()),
        "seeds": [*old.get("seeds", []), seed],
        "targets": targets,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "targets"}))


def _both(key: str, known: Any, value: Any) -> Any:
    return max(known, value) if key in ("slowest_seconds", "peak_mb") else known + value


if __name__ == "__main__":
    sys.exit(main())
