"""Targets one after another, each in a fork of this process, so that samples are made once and a fault ends its target alone.

    python _fuzz_slice.py guided|plain SECONDS SEED CORPUS OUT [TARGET...]

`guided`: libFuzzer chooses what to change by the branches that an input takes, and keeps what took new ones in CORPUS/TARGET.
`plain`: what was kept there is changed further, many times as fast, since nothing is traced. Of every input the first byte
chooses the file of the target, and the rest is its content. OUT becomes {TARGET: what came of its inputs}; an input whose
exception nobody caught is kept in CORPUS/TARGET faults.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
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

with atheris.instrument_imports(include=["logitproof"]) if sys.argv[1:2] == ["guided"] else contextlib.nullcontext():
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

    def __init__(self, target: Target, work: Path, seconds: float, corpus: Path) -> None:
        self.target, self.work, self.corpus = target, work, corpus
        self.end = time.monotonic() + seconds
        self.before = own_peak()
        self.inputs = self.refused = self.hangs = 0
        self.slowest = 0.0
        self.uncaught: list[str] = []
        self.damaged = ""

    def take(self, data: bytes) -> None:
        """Read one input, and end the process when the time is over."""
        name = self.target.files[data[0] % len(self.target.files)] if data else self.target.files[0]
        if self.damaged not in ("", name):
            self.target.restore(self.work, self.damaged)
        self.damaged = name
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
            self._keep(data)
        except Exception as error:
            self.uncaught.append(_place(error, self.work.parent))
            self._keep(data)
        finally:
            signal.alarm(0)
        now = time.monotonic()
        self.slowest = max(self.slowest, now - start)
        if now > self.end:
            (self.work.parent / "record.json").write_text(json.dumps(self.record()))
            os._exit(0)

    def _keep(self, data: bytes) -> None:
        folder = self.corpus.with_name(f"{self.corpus.name} faults")
        folder.mkdir(exist_ok=True)
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def record(self) -> dict[str, Any]:
        """As it stands in the result."""
        peak = round(max(own_peak() - self.before, 0.0), 1)
        counts = {"inputs": self.inputs, "refused": self.refused, "uncaught": self.uncaught, "hangs": self.hangs}
        return {**counts, "slowest_seconds": round(self.slowest, 2), "peak_mb": peak}


def main() -> None:
    kind, seconds, seed, corpus, out, *names = sys.argv[1:]
    warnings.simplefilter("ignore", RuntimeWarning)
    signal.signal(signal.SIGALRM, _alarm)
    # In memory where there is such a folder: a disk would be most of the time.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        tempfile.tempdir = folder
        end = time.monotonic() + float(seconds)
        made = {target.name: target for target in fuzz.targets(Path(folder, "samples"))}
        gc.collect()
        gc.freeze()  # what the samples left behind is never looked at again
        names, records = names or list(made), {}
        for number, name in enumerate(names):
            share = max((end - time.monotonic()) / (len(names) - number), 1.0)
            records[name] = _forked(made[name], Path(folder), share, Path(corpus, name), (kind, int(seed)))
            Path(out).write_text(json.dumps(records))


def _forked(target: Target, folder: Path, seconds: float, corpus: Path, how: tuple[str, int]) -> dict[str, Any]:
    """What a fork that read inputs wrote; RuntimeError where it died, which is the worst that a reader can do."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(target.files):
        (corpus / f"sound {number}").write_bytes(bytes([number]) + (target.sample / file).read_bytes())
    with tempfile.TemporaryDirectory(dir=folder) as place:
        work = shutil.copytree(target.sample, Path(place, "work"), symlinks=True)
        if (child := os.fork()) == 0:
            try:
                tempfile.tempdir = place
                _fuzzed(Slice(target, work, seconds, corpus), *how)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        record = Path(place, "record.json")
        if not record.is_file():
            raise RuntimeError(f"{target.name}: its process ended with {os.waitstatus_to_exitcode(status)}")
        result: dict[str, Any] = json.loads(record.read_text("utf-8"))
    return result


def _fuzzed(part: Slice, kind: str, seed: int) -> None:
    """Inputs until the time is over, which ends this process."""
    if kind == "guided":
        words = [f"-seed={seed}", f"-max_len={LARGEST}", "-timeout=600", "-rss_limit_mb=0", "-verbosity=0"]
        atheris.Setup([sys.argv[0], str(part.corpus), *words], part.take, custom_mutator=_changed)
        atheris.Fuzz()
    chance = random.Random(f"{part.target.name} {seed}")
    kept = {path.name: path.read_bytes() for path in sorted(part.corpus.iterdir())}
    sound = [data for name, data in kept.items() if name.startswith("sound ")]
    everything = list(kept.values())
    while True:
        # What was kept is damaged already, and one more fault behind the first is seldom reached.
        data = chance.choice(sound if chance.random() < 0.5 else everything) or b"\0"
        part.take(data[:1] + _crossed(mutated(data[1:], chance), chance, everything)[:LARGEST])


def _crossed(data: bytes, chance: random.Random, kept: list[bytes]) -> bytes:
    """The input, in one of eight cases with the end of another that was kept."""
    if chance.random() > 0.125:
        return data
    end = chance.choice(kept)
    return data[: chance.randrange(len(data) + 1)] + end[chance.randrange(len(end) + 1) :]


def _changed(data: bytes, most: int, seed: int) -> bytes:
    """An input with faults: ours in its content, or libFuzzer's anywhere."""
    chance = random.Random(seed)
    if len(data) < 2 or chance.random() < 0.5:
        return bytes(atheris.Mutate(data, most))
    return (data[:1] + mutated(data[1:], chance))[:most]


def _place(error: Exception, folder: Path) -> str:
    """Where it was raised and what it says, without the folder of this very run."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "logitproof" in frame.filename]
    place = f"{frames[-1].filename.rpartition('logitproof/')[2]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} {place}: {str(error).replace(f'{folder}/', '')[:100]}"


def _alarm(number: int, frame: FrameType | None) -> None:
    raise _Hang


if __name__ == "__main__":
    main()
