"""What the harness holds in memory, and what rows take on disk when they are kept compact.

`peak_mb` is the largest resident memory (VmHWM, mapped pages included) of the process `logitproof check` over two engines with
a vocabulary of 262,144 and a prompt of 4,090 tokens, whose rows are `rows_mb` each; the engines are processes of their own and
do not count. `compact_peak_mb` is the same with `--keep compact`, which reads rows again to write them, of `--short` tokens.

`store_ratio` is what `check --keep compact` leaves of the rows of SmolLM2-135M (`make real`), Q4_1 against Q8_0, by what
float32 took, and `kl_error` the largest difference in nats of a KL divergence that is measured again from the compact rows.

    python benchmarks/memory.py [--tokens 4090] [--short 64] [--folder PLACE] [--out benchmarks/results/memory.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _side_by_side import REAL, ROOT, machine, requantized, run
from gguf import GGMLQuantizationType, LlamaFileType

from logitproof.comparison.compare import compare
from logitproof.runs.kept import FOLDER
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import Trace

LIMITS = {"peak_mb": 300.0, "compact_peak_mb": 300.0, "store_ratio": 0.35, "kl_error": 1e-6}
VOCABULARY = 262_144
CHECK = """
import sys
from pathlib import Path
from logitproof.cli import main
try:
    code = main(sys.argv[1:], standalone_mode=False)
except SystemExit as end:
    code = end.code
words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print("peak", int(words["VmHWM"].split()[0]) / 1e3, code or 0)
"""


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4090, help="of the prompt; the toy's context is 4,096")
    parser.add_argument("--short", type=int, default=64, help="of the prompt whose rows are kept compact")
    parser.add_argument("--folder", type=Path, help="where 13 GB fit; a temporary folder by default")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/memory.json")
    options = parser.parse_args()
    if not REAL.is_file():
        raise SystemExit("NOT-MEASURED: `make real` fetches the model")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        peak = checked(toys(place, options.tokens), place / "long", "none")
        compact_peak = checked(toys(place, options.short), place / "short", "compact")
        store = kept(place)
    result = {
        "benchmark": "memory",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "peak_mb": peak,
        "compact_peak_mb": compact_peak,
        **store,
        "limits": LIMITS,
        "tokens": options.tokens,
        "short": options.short,
        "vocabulary": VOCABULARY,
        "rows_mb": options.tokens * VOCABULARY * 4 / 1e6,
        "model": REAL.name,
        "machine": machine(),
        "how": " ".join((__doc__ or "").split("\n\n    python")[0].split()),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, limit in LIMITS.items():
        print(f"{name:16s} {result[name]:12.4g}   limit {limit:g}")


def toys(place: Path, tokens: int) -> Path:
    """A contract of two toys that give as many rows of the largest vocabulary."""
    (place / "toy.json").write_text(json.dumps({"vocab_size": VOCABULARY, "seed": 1}))
    prompt = {"id": "long", "token_ids": [2 + index * 7919 % 250_000 for index in range(tokens)]}
    suite = {"suite": "long", "max_new_tokens": 0, "prompts": [prompt]}
    (place / "long.yaml").write_text(yaml.safe_dump(suite))
    engine: dict[str, Any] = {"engine": "toy", "timeout": 900}
    return contract(place, engine, {**engine, "options": {"noise": 0.05}}, str(place / "toy.json"), "long.yaml", 1.0)


def contract(place: Path, reference: Any, candidate: Any, model: Any, suite: str, bound: float) -> Path:
    """A contract of one candidate in prefill."""
    labels = [label for label in model if label != "original"] if isinstance(model, dict) else ["original"]
    content = {
        "contract": "memory", "reference": reference, "candidates": {"mine": candidate}, "suites": [suite],
        "models": {"model": model}, "matrix": {"quantization": labels, "mode": ["prefill"]},
        "bands": [{"match": bound, "wrong": 10 * bound, "basis": "nothing is judged here, memory is looked at"}],
        "gates": [
            {"id": "kl", "metric": "kl_divergence", "statistic": "mean", "at_most": 10, "basis": "nothing is judged here"}
        ],
    }  # fmt: skip
    path = place / "memory.parity.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def checked(path: Path, out: Path, keep: str) -> float:
    """Peak megabytes of a `check`."""
    printed = run([sys.executable, "-c", CHECK, "check", path, "--out", out, "--keep", keep]).out
    word, peak, code = printed.splitlines()[-1].split()
    assert word == "peak" and code == "0", printed[-2000:]
    return float(peak)


def kept(place: Path) -> dict[str, float]:
    """What a run of the real model leaves on disk of its rows, and how far a divergence out of it is off."""
    base = requantized(REAL, place / "q8_0.gguf", GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0)
    engine = {"engine": "llamacpp", "options": {"threads": 1}}
    path = contract(place, engine, engine, {"original": str(base), "Q4_1": str(REAL)}, "smoke-10", 1.0)
    space = Workspace(place / "real")
    run([sys.executable, "-m", "logitproof", "check", path, "--out", space.folder, "--keep", "compact"])
    report = space.judged().report
    whole = sum(result.logits.size * 4 for result in report.results.values() if isinstance(result, Trace))
    stored = sum(file.stat().st_size for file in (space.folder / FOLDER).rglob("*.rows"))
    errors, changed = [], 0
    for row in [row for rows in report.compared.values() for row in rows]:
        sides = [report.results[key] for key in (row.pair.reference, row.pair.candidate)]
        assert row.comparison is not None
        rows = [side.logits for side in sides if isinstance(side, Trace)]
        again = compare(*rows, labels=np.full(row.comparison.positions, -1))
        errors.append(np.abs(again.metrics["kl_divergence"] - row.comparison.metrics["kl_divergence"]).max())
        changed += int((again.metrics["top1"] != row.comparison.metrics["top1"]).sum())
    positions = sum(row.comparison.positions for rows in report.compared.values() for row in rows if row.comparison)
    assert positions > 100
    return {"store_ratio": stored / whole, "kl_error": float(max(errors)), "top1_changed": changed, "positions": positions}


if __name__ == "__main__":
    main()
