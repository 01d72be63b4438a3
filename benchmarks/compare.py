"""How long a comparison takes beside reading its two files, and how much memory it needs.

Both files are in the page cache. `read` opens both as memory maps, sums every row with numpy, one row of
each file after the other, the positions dealt to the same number of threads, and closes them. `compare`
opens them, runs `compare_logits` with every metric and closes them. Both therefore pay for mapping and
unmapping every page once. The two alternate; the ratio is the median of the paired ratios.

`noise` is the spread of candidate less reference, in logits: 0.02 is another build, 1.0 is a wrong engine.

Memory is the growth of anonymous resident memory (RssAnon) while a comparison runs in a fresh process
that has compared two tiny rows before, sampled every 2 ms: pages of the files are not in it. Resident
file pages (RssFile) are sampled too, to see that they are let go.

    python benchmarks/compare.py [--repeats 15] [--folder DIR] [--out benchmarks/results/compare.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.comparison.compare import all_metrics, compare_logits
from logitproof.metrics import Metric

VOCABULARY = 151_936
CASES = ((64, 0.02), (256, 0.02), (256, 1.0))  # positions, noise
SEED = 20
LIMIT = 3.0


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where the logits are written; the default is a temporary folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "compare.json")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    cases = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for positions, noise in CASES:
            files = write_logits(Path(folder), positions, noise)
            for threads in sorted({1, cores}):
                cases.append({"noise": noise} | measure(files, threads, options.repeats))
                print(line(cases[-1]), flush=True)
    result = {
        "benchmark": "compare",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "ratio_to_read": max(case["ratio_to_read"] for case in cases),
        "limit": LIMIT,
        "peak_mb": max(case["peak_mb"] for case in cases),
        "threads": cores,
        "vocabulary": VOCABULARY,
        "dtype": "float32",
        "seed": SEED,
        "metrics": sorted(all_metrics()),
        "machine": machine(cores),
        "how": " ".join((__doc__ or "").split("\n\n    python")[0].split()),
        "cases": cases,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nratio to read {result['ratio_to_read']:.2f} (at most {LIMIT}), peak {result['peak_mb']:.1f} MB: {options.out}")


def write_logits(folder: Path, positions: int, spread: float) -> tuple[Path, Path, int]:
    """Two files of [positions, VOCABULARY] float32: logits of spread 3, and the same with noise."""
    random = np.random.default_rng(SEED)
    names = folder / f"reference-{positions}", folder / f"candidate-{positions}"
    with names[0].open("wb") as reference, names[1].open("wb") as candidate:
        for _ in range(positions):
            row = random.standard_normal(VOCABULARY, np.float32) * 3
            row[random.integers(VOCABULARY, size=20)] += 10
            noise = random.standard_normal(VOCABULARY, np.float32) * np.float32(spread)
            reference.write(row.tobytes())
            candidate.write((row + noise).tobytes())
    return *names, positions


def measure(files: tuple[Path, Path, int], threads: int, repeats: int) -> dict[str, Any]:
    """Figures of one number of positions and threads."""
    metrics = all_metrics()
    full(files, threads, metrics)  # compiles, and warms the page cache
    read(files, threads)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        peak, file_peak = fresh.submit(growth, files, threads).result()
    pairs = [(seconds(lambda: read(files, threads)), seconds(lambda: full(files, threads, metrics))) for _ in range(repeats)]
    return {
        "positions": files[2],
        "threads": threads,
        "repeats": repeats,
        "load": os.getloadavg()[0],
        "read_ms": 1e3 * statistics.median(first for first, _ in pairs),
        "compare_ms": 1e3 * statistics.median(second for _, second in pairs),
        "ratio_to_read": statistics.median(second / first for first, second in pairs),
        "ratio_quartiles": statistics.quantiles((second / first for first, second in pairs), n=4)[::2],
        "peak_mb": peak,
        "peak_file_mb": file_peak,
        "file_mb": 2 * files[2] * VOCABULARY * 4 / 1e6,
    }


def opened(files: tuple[Path, Path, int]) -> list[np.ndarray]:
    return [np.memmap(file, np.float32, "r", shape=(files[2], VOCABULARY)) for file in files[:2]]


def read(files: tuple[Path, Path, int], threads: int) -> None:
    maps = opened(files)

    def lane(first: int) -> None:
        for i in range(first, files[2], threads):
            maps[0][i].sum()
            maps[1][i].sum()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lane, range(threads)))


def full(files: tuple[Path, Path, int], threads: int, metrics: Mapping[str, Metric]) -> None:
    reference, candidate = opened(files)
    compare_logits(reference, candidate, np.arange(files[2]), metrics, threads)


def seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def growth(files: tuple[Path, Path, int], threads: int) -> tuple[float, float]:
    """Peak growth of anonymous and of file-backed resident memory during one comparison, MB."""
    metrics, tiny = all_metrics(), np.zeros((1, 2), np.float32)
    compare_logits(tiny, tiny, np.zeros(1, np.int64), metrics, threads)
    before, peaks, over = resident(), [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            for side, now in enumerate(resident()):
                peaks[side] = max(peaks[side], now - before[side])

    watcher = threading.Thread(target=watch)
    watcher.start()
    full(files, threads, metrics)
    over.set()
    watcher.join()
    return peaks[0], peaks[1]


def resident() -> tuple[float, float]:
    """RssAnon and RssFile of this process, MB."""
    fields = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def machine(cores: int) -> dict[str, Any]:
    rows = [row.split(":", 1) for row in Path("/proc/cpuinfo").read_text().splitlines() if ":" in row]
    found = {key.strip(): value.strip() for key, value in rows}
    return {"cpu": found.get("model name", platform.machine()), "cores": cores, "system": platform.system()}


def line(case: dict[str, Any]) -> str:
    return (
        f"T={case['positions']:4d}  noise={case['noise']:<4}  threads={case['threads']}  read {case['read_ms']:7.1f} ms"
        f"  compare {case['compare_ms']:7.1f} ms"
        f"  ratio {case['ratio_to_read']:.2f}  anonymous +{case['peak_mb']:.1f} MB  file +{case['peak_file_mb']:.1f} MB"
    )


if __name__ == "__main__":
    main()
