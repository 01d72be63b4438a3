"""What logitproof adds to the engines that it runs: `kl` beside the bare library, the header of a GGUF, and a run again.

`ratio` is the wall of `logitproof kl` over two files by that of a program of 45 lines on the same library
(`benchmarks/_bare.py`), which puts the same windows through both models and does nothing with the rows; `cpu_ratio` is the
same of processor time. `header_s` is one opening of a GGUF with its strings counted, `check` of a contract whose store has
everything takes `restart_s`, and starting an engine until it answers `hello` takes `start_s`. The commands take turns.

    python benchmarks/overhead.py [--windows 4] [--context 512] [--repeats 3] [--out benchmarks/results/overhead.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
from pathlib import Path

import yaml
from _side_by_side import CORES, PYTHON, REAL, ROOT, machine, ratio, requantized, summary, timed, warm
from gguf import GGMLQuantizationType, LlamaFileType
from peer import written

from logitproof.files.gguf import GgufFile
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Spec

LIMITS = {"ratio": 1.10, "header_s": 0.3, "restart_s": 3.0}
LARGEST = REAL.with_name("gemma-3-270m-Q4_K_M.gguf")
"""A vocabulary of 262,144."""
ENGINES = ("llamacpp", "transformers")


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/overhead.json")
    options = parser.parse_args()
    if not REAL.is_file() or not LARGEST.is_file():
        raise SystemExit("NOT-MEASURED: `make real` fetches the models")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        other = requantized(REAL, place / "q8_0.gguf", GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0)
        text, windows = written(place / "text.txt"), str(options.windows)
        bare = [PYTHON, ROOT / "benchmarks/_bare.py", text, str(options.context), windows, str(options.threads), other, REAL]
        kl = [PYTHON, "-m", "logitproof", "kl", other, REAL, "--text", text, "--threads", str(options.threads)]
        kl += ["--context", str(options.context), "--windows", windows]
        warm(other, text)
        pairs = [(timed(bare), timed(kl)) for _ in range(options.repeats)]
        restart = restarted(place, options.repeats)
    alone, ours = [first for first, _ in pairs], [second for _, second in pairs]
    result = {
        "benchmark": "overhead",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "ratio": ratio(ours, alone, "wall"),
        "cpu_ratio": ratio(ours, alone, "cpu"),
        "header_s": statistics.median(opened() for _ in range(5)),
        "restart_s": restart,
        "start_s": {name: statistics.median(started(name) for _ in range(options.repeats)) for name in ENGINES},
        "limits": LIMITS,
        "machine": machine(),
        "model": REAL.name,
        "windows": options.windows,
        "context": options.context,
        "threads": options.threads,
        "how": " ".join((__doc__ or "").split("\n\n    python")[0].split()),
        "runs": {"bare": summary(alone), "kl": summary(ours)},
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print({name: result[name] for name in ("ratio", "cpu_ratio", "header_s", "restart_s", "start_s")})


def opened() -> float:
    """Seconds to read and check the header of a GGUF of 262,144 tokens."""
    begin = time.perf_counter()
    assert len(GgufFile(LARGEST).fields["tokenizer.ggml.tokens"]) == 262_144
    return time.perf_counter() - begin


def started(engine: str) -> float:
    """Seconds until an engine has answered `hello`, its process and its libraries included."""
    begin = time.perf_counter()
    with Session(Spec(engine), engine) as session:
        session.hello()
        return time.perf_counter() - begin


def restarted(place: Path, repeats: int) -> float:
    """Median seconds of a `check` that finds every trace in its store."""
    zoo = ROOT / "zoo/gguf"
    engine = {"engine": "llamacpp", "options": {"threads": 1}}
    contract = {
        "contract": "restart", "reference": engine, "candidates": {"q8": engine}, "suites": ["smoke-10"],
        "models": {"qwen3": {"original": str(zoo / "qwen3-F32.gguf"), "Q8_0": str(zoo / "qwen3-Q8_0.gguf")}},
        "matrix": {"quantization": ["Q8_0"], "mode": ["prefill"]},
        "bands": [{"match": 0.5, "wrong": 5.0, "basis": "eight bits a weight; 0.1 was measured"}],
        "gates": [
            {"id": "kl", "metric": "kl_divergence", "statistic": "mean", "at_most": 0.01, "basis": "1e-3 was measured"}
        ],
    }  # fmt: skip
    path = place / "restart.parity.yaml"
    path.write_text(yaml.safe_dump(contract), "utf-8")
    argv = [PYTHON, "-m", "logitproof", "check", path, "--out", place / "run"]
    timed(argv)
    return statistics.median(timed(argv).wall for _ in range(repeats))


if __name__ == "__main__":
    main()
