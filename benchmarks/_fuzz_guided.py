"""One target under libFuzzer: the package tells which of its branches an input takes, and inputs that take new ones are kept.

    python _fuzz_guided.py TARGET SECONDS SEED CORPUS OUT

Run by fuzz.py as a process of its own, since libFuzzer ends its process. The first byte of an input chooses the file of the
target, the rest is its content. Inputs are changed by our faults and by libFuzzer's own, half each.
"""

from __future__ import annotations

import json
import os
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

import atheris

with atheris.instrument_imports(include=["logitproof"]):
    import _fuzz_targets as fuzz
from _fuzz_damage import REFUSALS, Target, mutated
from _peak import own_peak

HANG = 20
"""Seconds after which an input counts as a hang; the slowest that is read takes some two."""
LARGEST = 1 << 18


class _Hang(BaseException):
    """Raised by the alarm; no reader may catch it."""


class Slice:
    """What came of the inputs of one target."""

    def __init__(self, target: Target, work: Path, seconds: float, out: Path) -> None:
        self.target, self.work, self.out = target, work, out
        self.end = time.monotonic() + seconds
        self.before = _memory()
        self.inputs = self.refused = self.hangs = 0
        self.slowest = 0.0
        self.uncaught: list[str] = []

    def take(self, data: bytes) -> None:
        """Read one input, and end the process when the time is over."""
        name = self.target.files[data[0] % len(self.target.files)] if data else self.target.files[0]
        (self.work / name).write_bytes(data[1:])
        start = time.monotonic()
        self.inputs += 1
        signal.alarm(HANG)
        try:
            self.target.read(self.work)
        except REFUSALS:
            self.refused += 1
        except _Hang:
            self.hangs += 1
        except Exception as error:
            self.uncaught.append(_place(error))
        finally:
            signal.alarm(0)
        now = time.monotonic()
        self.slowest = max(self.slowest, now - start)
        self.target.restore(self.work, name)
        if now > self.end:
            self.out.write_text(json.dumps(self.record()))
            os._exit(0)

    def record(self) -> dict[str, Any]:
        """As it stands in the result."""
        peak = round(max(_memory() - self.before, 0.0), 1)
        counts = {"inputs": self.inputs, "refused": self.refused, "uncaught": self.uncaught, "hangs": self.hangs}
        return {**counts, "slowest_seconds": round(self.slowest, 2), "peak_mb": peak}


def main() -> None:
    name, seconds, seed, corpus, out = sys.argv[1:]
    warnings.simplefilter("ignore", RuntimeWarning)
    signal.signal(signal.SIGALRM, _alarm)
    # In memory where there is such a folder: a disk would be most of the time.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    os.environ["TMPDIR"] = str(folder)
    target = next(target for target in fuzz.targets(folder / "samples") if target.name == name)
    shutil.copytree(target.sample, folder / "work", symlinks=True)
    for number, file in enumerate(target.files):
        (Path(corpus) / f"sound {number}").write_bytes(bytes([number]) + (target.sample / file).read_bytes())
    part = Slice(target, folder / "work", float(seconds), Path(out))
    argv = [sys.argv[0], corpus, f"-seed={seed}", f"-max_len={LARGEST}", "-timeout=600", "-rss_limit_mb=0", "-verbosity=0"]
    atheris.Setup(argv, part.take, custom_mutator=_changed)
    atheris.Fuzz()


def _changed(data: bytes, most: int, seed: int) -> bytes:
    """An input with faults: ours in its content, or libFuzzer's anywhere."""
    chance = random.Random(seed)
    if len(data) < 2 or chance.random() < 0.5:
        return bytes(atheris.Mutate(data, most))
    return (data[:1] + mutated(data[1:], chance))[:most]


def _place(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "logitproof" in frame.filename]
    place = f"{frames[-1].filename.rpartition('logitproof/')[2]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} {place}: {str(error)[:100]}"


def _alarm(number: int, frame: FrameType | None) -> None:
    raise _Hang


def _memory() -> float:
    """The most memory that this process had, in MB."""
    return own_peak()


if __name__ == "__main__":
    main()
