"""What a run costs as it grows: processor seconds and peak memory against tokens, vocabulary, prompts, cells and layers.

Along each axis one thing grows eightfold and all else stays. `exponents` has, by axis, the slope of the logarithm of what is
spent beyond the smallest run against that of what was added to it, by least squares: 1 is proportional, and what every run
costs however small it is does not hide a curve. Seconds are those of `logitproof check` over two engines `toy` with both, or
for layers of a streamed pass over a model that was fabricated with so many. Memory is the harness's own peak (VmHWM), or that
of the streaming process; its exponent is 0 where the largest run takes less than a tenth more than the smallest.

Parts that are measured one by one go into the same file; what it holds of other parts stays, if it is of the same machine.

    python benchmarks/scale.py [--part tokens vocabulary ...] [--repeats 1] [--out benchmarks/results/scale.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _side_by_side import PYTHON, ROOT, machine, timed
from memory import CHECK

from logitproof.weights.fabricate import fabricate
from logitproof.weights.shapes import shape

LIMIT = 1.05
GROWTH = (1, 2, 4, 8)
FLAT = 0.1
STREAM = """
import sys
from pathlib import Path
import torch
from logitproof.reference.layerwise import Ended
from logitproof.reference.model import Loading
from logitproof.reference.streamed import Streamed
model = Path(sys.argv[1])
streamed = Streamed(model, model, Loading())
ids = [torch.arange(64) * 37 % streamed.reference.vocabulary for _ in range(4)]
ended = 0
for news in streamed.passes(ids):
    if isinstance(news, Ended):
        if news.error is not None:
            raise news.error
        ended += int(news.result.isfinite().all())
    del news
assert ended == len(ids)
words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print("peak", int(words["VmHWM"].split()[0]) / 1e3, 0)
"""


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=tuple(AXES), default=tuple(AXES))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/scale.json")
    options = parser.parse_args()
    curves = {name: points for name, points in earlier(options.out).items() if name not in options.part}
    curves |= {name: curve(AXES[name][1], AXES[name][0], options.repeats) for name in options.part}
    curves = {name: curves[name] for name in AXES if name in curves}
    exponents = {
        name: {"seconds": exponent(points, "cpu_s"), "memory": exponent(points, "peak_mb")} for name, points in curves.items()
    }
    result = {
        "benchmark": "scale",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "exponents": exponents,
        "limits": {"exponents": LIMIT},
        "machine": machine(),
        "repeats": options.repeats,
        "how": " ".join((__doc__ or "").split("\n\n    python")[0].split()),
        "curves": curves,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, fitted in exponents.items():
        print(f"{name:12s} seconds {fitted['seconds']:6.3f}   memory {fitted['memory']:6.3f}   limit {LIMIT}")


def earlier(path: Path) -> dict[str, list[dict[str, float]]]:
    """The curves that a file has from this machine."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    is_same = {**content["machine"], "load": 0} == {**machine(), "load": 0}
    curves: dict[str, list[dict[str, float]]] = content["curves"] if is_same else {}
    return curves


def curve(measure: Callable[[Path, int], tuple[float, float]], base: int, repeats: int) -> list[dict[str, float]]:
    """What every size costs, the median of some runs each; sizes take turns."""
    rounds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append([measure(Path(folder), base * times) for times in GROWTH])
    columns = list(zip(*rounds, strict=True))
    return [
        {
            "size": base * times,
            "cpu_s": statistics.median(cpu for cpu, _ in runs),
            "peak_mb": statistics.median(peak for _, peak in runs),
        }
        for times, runs in zip(GROWTH, columns, strict=True)
    ]


def exponent(points: Sequence[dict[str, float]], what: str) -> float:
    """Slope of log(cost beyond the smallest) by log(size beyond the smallest); 0 of what does not grow."""
    first, *others = points
    if others[-1][what] <= (1 + FLAT) * first[what]:
        return 0.0
    added = [point for point in others if point[what] > first[what]]
    x, y = (np.log([point[name] - first[name] for point in added]) for name in ("size", what))
    if len(added) < 2:
        raise SystemExit(f"{what} grows at the last size alone: {list(points)}")
    return float(np.polyfit(x, y, 1)[0])


def toys(place: Path, tokens: int = 128, vocabulary: int = 32_768, prompts: int = 1, cells: int = 1) -> tuple[float, float]:
    """Processor seconds and peak megabytes of a `check` with so many of each."""
    folder = place / f"{tokens}-{vocabulary}-{prompts}-{cells}"
    folder.mkdir()
    (folder / "toy.json").write_text(json.dumps({"vocab_size": vocabulary, "seed": 1}))
    ids = [[2 + (index * 7919 + number) % (vocabulary - 2) for index in range(tokens)] for number in range(prompts)]
    listed = [{"id": f"p{number}", "token_ids": sequence} for number, sequence in enumerate(ids)]
    (folder / "suite.yaml").write_text(yaml.safe_dump({"suite": "grown", "max_new_tokens": 0, "prompts": listed}))
    engine: dict[str, Any] = {"engine": "toy", "timeout": 600}
    candidates = {f"c{number}": {**engine, "options": {"noise": 0.05, "seed": number}} for number in range(cells)}
    content = {
        "contract": "scale", "reference": engine, "candidates": candidates, "suites": ["suite.yaml"],
        "models": {"toy": "toy.json"}, "matrix": {"quantization": ["original"], "mode": ["prefill"]},
        "bands": [{"match": 1.0, "wrong": 10.0, "basis": "nothing is judged here, time is looked at"}],
        "gates": [
            {"id": "kl", "metric": "kl_divergence", "statistic": "mean", "at_most": 10, "basis": "nothing is judged here"}
        ],
    }  # fmt: skip
    path = folder / "scale.parity.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return spent([PYTHON, "-c", CHECK, "check", path, "--out", folder / "run", "--keep", "none"])


def layers(place: Path, count: int) -> tuple[float, float]:
    """Processor seconds and peak megabytes of a streamed pass over a model of so many layers."""
    folder = place / f"layers-{count}"
    fabricate(shape("qwen3-0.6b", count), folder)
    return spent([PYTHON, "-c", STREAM, folder])


def spent(argv: Sequence[str | Path]) -> tuple[float, float]:
    used = timed(argv)
    word, peak, code = used.out.splitlines()[-1].split()
    if word != "peak" or code != "0":
        sys.exit(used.out[-2000:])
    return used.cpu, float(peak)


AXES: dict[str, tuple[int, Callable[[Path, int], tuple[float, float]]]] = {
    "tokens": (128, lambda place, size: toys(place, tokens=size)),
    "vocabulary": (16_384, lambda place, size: toys(place, vocabulary=size)),
    "prompts": (8, lambda place, size: toys(place, prompts=size, vocabulary=4096, tokens=32)),
    "cells": (2, lambda place, size: toys(place, cells=size, vocabulary=4096)),
    "layers": (1, layers),
}
"""What grows: its smallest size, and what measures one size of it."""

if __name__ == "__main__":
    main()
