"""How long a comparison takes beside reading its two files, and how much memory it needs.

Both files are in the page cache. `read` opens both as memory maps, sums every row with numpy (float32, or its bytes), a row of
each file after the other, the positions dealt to the same number of threads, and closes them. `compare` opens them, runs
`compare_logits` with every metric and closes them. Both therefore pay for mapping and unmapping every page once. The two
alternate; the ratio is the median of the paired ratios. `isa` has the largest by instruction set and type of the rows: each
instruction set is a process whose compiler was told to use no later one; bfloat16 rows are handed over by their bits.

`noise` is the spread of candidate less reference, in logits: 0.02 is another build, 1.0 is a wrong engine. `kl_error` is the
largest relative error of KL divergence against 50 digits (mpmath) over `--exact` of these rows.

Memory is the growth of anonymous resident memory (RssAnon) while a comparison runs in a fresh process
that has compared two tiny rows before, sampled every 2 ms: pages of the files are not in it. Resident
file pages (RssFile) are sampled too, to see that they are let go.

    python benchmarks/compare.py [--repeats 15] [--exact 1] [--folder DIR] [--out benchmarks/results/compare.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

from logitproof.comparison.compare import all_metrics, compare_logits
from logitproof.metrics import Metric
from logitproof.protocol.machine import this_machine

VOCABULARY = 151_936
CASES = ((64, 0.02), (256, 0.02), (256, 1.0))  # positions, noise
KINDS = ("float32", "float16", "bfloat16")
STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
"""Of bfloat16 the bits are handed over."""
SEED = 20
LIMITS = {"avx512": 2.0, "avx2": 3.0}
COMPILED = {"avx512": {}, "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}}
"""What the compiler is told by instruction set: nothing for the machine's own."""
KL_LIMIT = 1e-9


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--exact", type=int, default=1, help="rows of which KL divergence is computed with 50 digits")
    parser.add_argument("--folder", type=Path, help="where the logits are written; the default is a temporary folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "compare.json")
    parser.add_argument("--isa", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.isa:
        print(json.dumps(cases_of(options)))
        return
    cases = [case for isa in sets() for case in elsewhere(isa, options)]
    result = concluded(cases, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for isa, kinds in result["isa"].items():
        print(f"{isa}: {kinds}, at most {LIMITS[isa]}")
    print(f"peak {result['peak_mb']:.1f} MB, KL off by {result['kl_error']:.1e}: {options.out}")


def sets() -> list[str]:
    """The instruction sets of this machine, the widest first."""
    flags = set(this_machine().flags)
    return [isa for isa, flag in (("avx512", "avx512f"), ("avx2", "avx2")) if flag in flags]


def elsewhere(isa: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All cases in a process that computes with one instruction set."""
    environment = {**os.environ, **COMPILED[isa]}
    argv = [sys.executable, __file__, "--isa", isa, "--repeats", str(options.repeats)]
    argv += ["--folder", str(options.folder)] if options.folder else []
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    cases: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return cases


def cases_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Figures of every case, in this process."""
    cores, cases = len(os.sched_getaffinity(0)), []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for kind in KINDS:
            for positions, noise in CASES:
                files = write_logits(Path(folder), positions, noise, kind)
                for threads in sorted({1, cores}):
                    cases.append({"isa": options.isa, "dtype": kind, "noise": noise} | measure(files, threads, options.repeats))
                    print(line(cases[-1]), file=sys.stderr, flush=True)
    return cases


def concluded(cases: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """The file: the largest ratios first, then what they rest on."""
    isa: dict[str, dict[str, float]] = {}
    for case in cases:
        of_set = isa.setdefault(case["isa"], {})
        of_set[case["dtype"]] = max(case["ratio_to_read"], of_set.get(case["dtype"], 0.0))
    return {
        "benchmark": "compare",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "isa": isa,
        "ratio_to_read": max(case["ratio_to_read"] for case in cases),
        "kl_error": kl_error(options.exact),
        "limits": {**LIMITS, "kl_error": KL_LIMIT},
        "peak_mb": max(case["peak_mb"] for case in cases),
        "threads": len(os.sched_getaffinity(0)),
        "vocabulary": VOCABULARY,
        "seed": SEED,
        "metrics": sorted(all_metrics()),
        "machine": machine(len(os.sched_getaffinity(0))),
        "how": " ".join((__doc__ or "").split("\n\n    python")[0].split()),
        "cases": cases,
    }


def kl_error(rows: int) -> float:
    """Largest relative error of KL divergence, by arithmetic of 50 digits."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder, mpmath.workdps(50):
        for noise in (0.02, 1.0):
            files = write_logits(Path(folder), rows, noise, "float32")
            values = compare_logits(*opened(files), np.arange(rows), all_metrics()).metrics["kl_divergence"]
            for row, value in enumerate(values):
                exact = exact_kl(*(side[row] for side in opened(files)))
                worst = max(worst, abs(float((mpmath.mpf(float(value)) - exact) / exact)))
    return worst


def exact_kl(reference: np.ndarray, candidate: np.ndarray) -> Any:
    """KL(reference ‖ candidate) of two rows [V], in nats."""
    r, t = ([mpmath.mpf(float(value)) for value in row] for row in (reference, candidate))
    e = [mpmath.exp(value) for value in r]
    mass, other = mpmath.fsum(e), mpmath.fsum(mpmath.exp(value) for value in t)
    shifted = mpmath.fsum(weight * (a - b) for weight, a, b in zip(e, r, t, strict=True)) / mass
    return shifted - mpmath.log(mass) + mpmath.log(other)


Files = tuple[Path, Path, int, str]
"""Rows of the reference and of the candidate, how many there are, and their type."""


def write_logits(folder: Path, positions: int, spread: float, kind: str) -> Files:
    """Two files of [positions, VOCABULARY]: logits of spread 3, and the same with noise."""
    random = np.random.default_rng(SEED)
    names = folder / f"reference-{positions}", folder / f"candidate-{positions}"
    with names[0].open("wb") as reference, names[1].open("wb") as candidate:
        for _ in range(positions):
            row = random.standard_normal(VOCABULARY, np.float32) * 3
            row[random.integers(VOCABULARY, size=20)] += 10
            noise = random.standard_normal(VOCABULARY, np.float32) * np.float32(spread)
            reference.write(narrowed(row, kind).tobytes())
            candidate.write(narrowed(row + noise, kind).tobytes())
    return *names, positions, kind


def narrowed(row: np.ndarray, kind: str) -> np.ndarray:
    """A row as a file of this type holds it: bfloat16 is the upper half of float32."""
    return (row.view(np.uint32) >> 16).astype(np.uint16) if kind == "bfloat16" else row.astype(kind)


def measure(files: Files, threads: int, repeats: int) -> dict[str, Any]:
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
        "file_mb": 2 * files[2] * VOCABULARY * np.dtype(STORED[files[3]]).itemsize / 1e6,
    }


def opened(files: Files) -> list[np.ndarray]:
    return [np.memmap(file, STORED[files[3]], "r", shape=(files[2], VOCABULARY)) for file in files[:2]]


def read(files: Files, threads: int) -> None:
    maps = opened(files)

    def lane(first: int) -> None:
        for i in range(first, files[2], threads):
            for rows in maps:
                # numpy adds half floats one by one: of these the bytes are summed
                rows[i].sum() if files[3] == "float32" else rows[i].view(np.uint64).sum()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lane, range(threads)))


def full(files: Files, threads: int, metrics: Mapping[str, Metric]) -> None:
    reference, candidate = opened(files)
    compare_logits(reference, candidate, np.arange(files[2]), metrics, threads)


def seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def growth(files: Files, threads: int) -> tuple[float, float]:
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
        f"{case['isa']} {case['dtype']}  T={case['positions']:4d}  noise={case['noise']:<4}"
        f"  threads={case['threads']}  read {case['read_ms']:7.1f} ms"
        f"  compare {case['compare_ms']:7.1f} ms"
        f"  ratio {case['ratio_to_read']:.2f}  anonymous +{case['peak_mb']:.1f} MB  file +{case['peak_file_mb']:.1f} MB"
    )


if __name__ == "__main__":
    main()
