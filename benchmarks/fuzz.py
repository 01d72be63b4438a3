"""Damaged files into every reader of files from outside: each is read or refused, at once, and memory stays bounded.

    python benchmarks/fuzz.py --seconds 60 --seed 1           one slice
    python benchmarks/fuzz.py --seconds 60 --seed 2 --add     the next one, added to what is written

Writes benchmarks/results/fuzz.json: {inputs, uncaught, hangs, peak_mb, targets, seeds}. A seed makes the same inputs on every
machine, as many as the seconds allow.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import _fuzz_targets as fuzz
from _peak import own_peak

RESULT = Path(__file__).parent / "results/fuzz.json"
HANG = 20
"""Seconds after which an input counts as a hang; the slowest that is read takes some two."""


class _Hang(BaseException):
    """Raised by the alarm; no reader may catch it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--add", action="store_true", help="add to the result that is there")
    parser.add_argument("--only", nargs="*", default=[], help="names of targets")
    wanted = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    signal.signal(signal.SIGALRM, _alarm)
    # In memory where there is such a folder: a disk would be most of the time.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        chosen = [target for target in fuzz.targets(Path(folder, "samples")) if not wanted.only or target.name in wanted.only]
        # The samples need an engine and its libraries; what counts is what the readers take on top of that.
        before = _memory()
        slices = {target.name: _slice(target, Path(folder), wanted.seconds / len(chosen), wanted.seed) for target in chosen}
    _write(slices, wanted.seed, _memory() - before, add=wanted.add)
    faults = [fault for found in slices.values() for fault in found["uncaught"]]
    for fault, count in collections.Counter(faults).most_common():
        print(f"{count} × {fault}")
    return 1 if faults or any(found["hangs"] for found in slices.values()) else 0


def _slice(target: fuzz.Target, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Damage one target's files for some seconds: how many inputs, what came that is no refusal, how many hung."""
    work = folder / f"work {target.name}"
    shutil.copytree(target.sample, work, symlinks=True)
    chance, end, inputs, refused, hangs, slowest = (
        random.Random(f"{seed} {target.name}"),
        time.monotonic() + seconds,
        0,
        0,
        0,
        0.0,
    )
    uncaught: list[str] = []
    while time.monotonic() < end:
        name, _ = target.broken(chance, work)
        inputs, start = inputs + 1, time.monotonic()
        signal.alarm(HANG)
        try:
            target.read(work)
        except fuzz.REFUSALS:
            refused += 1
        except _Hang:
            hangs += 1
        except Exception as error:
            uncaught.append(_place(error))
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.monotonic() - start)
        target.restore(work, name)
    print(f"{target.name}: {inputs} inputs, {refused} refused, {len(uncaught)} uncaught, {hangs} hung", flush=True)
    return {"inputs": inputs, "refused": refused, "uncaught": uncaught, "hangs": hangs, "slowest_seconds": round(slowest, 2)}


def _place(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "logitproof" in frame.filename]
    place = f"{frames[-1].filename.rpartition('logitproof/')[2]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} {place}: {str(error)[:100]}"


def _alarm(number: int, frame: FrameType | None) -> None:
    raise _Hang


def _memory() -> float:
    """The most memory that this process had, in MB."""
    return own_peak()


def _write(slices: dict[str, Any], seed: int, peak: float, *, add: bool) -> None:
    old = json.loads(RESULT.read_text("utf-8")) if add and RESULT.is_file() else {}
    targets = old.get("targets", {})
    for name, found in slices.items():
        known = targets.get(name, {"inputs": 0, "refused": 0, "uncaught": [], "hangs": 0, "slowest_seconds": 0.0})
        targets[name] = {
            key: max(known[key], found[key]) if key == "slowest_seconds" else known[key] + found[key] for key in found
        }
    result = {
        "inputs": sum(found["inputs"] for found in targets.values()),
        "uncaught": sum(len(found["uncaught"]) for found in targets.values()),
        "hangs": sum(found["hangs"] for found in targets.values()),
        "peak_mb": round(max(peak, old.get("peak_mb", 0.0)), 1),
        "seeds": [*old.get("seeds", []), seed],
        "targets": targets,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "targets"}))


if __name__ == "__main__":
    sys.exit(main())
