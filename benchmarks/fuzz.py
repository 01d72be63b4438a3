"""Damaged files into every reader of files from outside, and damaged answers into every border to an engine.

Each is read or refused, at once, and memory stays bounded. For a fifth of the time libFuzzer chooses what to change by the
branches that an input takes, and the inputs that took new ones are kept in .cache/fuzz, where the next run begins; for the rest
what was kept is changed further without tracing (see _fuzz_slice.py).

    python benchmarks/fuzz.py [--seconds 1500] [--seed 1]     all targets, in turn
    python benchmarks/fuzz.py --only gguf --seed 2 --add      one, added to what is written

Writes benchmarks/results/fuzz.json: {inputs, guided, uncaught, hangs, peak_mb, targets, seeds}.
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

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/fuzz.json"
CORPUS = ROOT / ".cache/fuzz"
SHARES = {"guided": 0.2, "plain": 0.8}
"""Of the time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1500, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--add", action="store_true", help="add to the result that is there")
    parser.add_argument("--only", nargs="*", default=[], help="names of targets")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slices: dict[str, Any] = {}
        for kind, share in SHARES.items():
            records = _slices(kind, wanted.seconds * share, wanted.seed, wanted.only, Path(folder))
            guided = {name: {"guided": part["inputs"] if kind == "guided" else 0} for name, part in records.items()}
            slices = _added(slices, {name: {**part, **guided[name]} for name, part in records.items()})
    for name, part in slices.items():
        counts = f"{part['refused']} refused, {len(part['uncaught'])} uncaught, {part['hangs']} hung"
        print(f"{name}: {part['inputs']} inputs, {counts}", flush=True)
    _write(slices, wanted.seed, add=wanted.add)
    faults = [fault for part in slices.values() for fault in part["uncaught"]]
    for fault, count in collections.Counter(faults).most_common():
        print(f"{count} × {fault}")
    return 1 if faults or any(part["hangs"] for part in slices.values()) else 0


def _slices(kind: str, seconds: float, seed: int, names: list[str], folder: Path) -> dict[str, Any]:
    """What came of each target that is named, or of all, in these seconds; RuntimeError where a process died."""
    out = folder / f"{kind}.json"
    words = [sys.executable, Path(__file__).with_name("_fuzz_slice.py"), kind, str(seconds), str(seed), CORPUS, out, *names]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"the process of {kind} inputs ended with {done.returncode}: {done.stderr[-2000:]}")
    records: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return records


def _write(slices: dict[str, Any], seed: int, *, add: bool) -> None:
    old = json.loads(RESULT.read_text("utf-8")) if add and RESULT.is_file() else {}
    targets = _added(old.get("targets", {}), slices)
    result = {
        "inputs": sum(part["inputs"] for part in targets.values()),
        "guided": sum(part["guided"] for part in targets.values()),
        "uncaught": sum(len(part["uncaught"]) for part in targets.values()),
        "hangs": sum(part["hangs"] for part in targets.values()),
        "peak_mb": max(part["peak_mb"] for part in targets.values()),
        "seeds": [*old.get("seeds", []), seed],
        "targets": targets,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "targets"}))


def _added(targets: dict[str, Any], slices: dict[str, Any]) -> dict[str, Any]:
    """Of every target what both say."""
    sums = dict(targets)
    for name, part in slices.items():
        known = sums.get(name)
        sums[name] = {key: _both(key, known[key], value) for key, value in part.items()} if known else part
    return sums


def _both(key: str, known: Any, value: Any) -> Any:
    return max(known, value) if key in ("slowest_seconds", "peak_mb") else known + value


if __name__ == "__main__":
    sys.exit(main())
