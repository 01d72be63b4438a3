"""`logitproof kl` beside what people use: both passes of `llama-perplexity --kl-divergence`, and the script of twenty lines.

SmolLM2-135M as published in Q4_1 (`make real`) against the same weights in Q8_0, with the same kernels: `--no-repack`, the
cache in float32, no flash attention, all cores. The commands take turns, each `--repeats` times; ratios are medians of pairs.
`cached` has the base's rows in a file from before, as the tool's second pass has. `disk` is what a command leaves: the
tool's base file, and our statistics.

    python benchmarks/peer.py [--windows 4] [--context 512] [--repeats 3] [--script 24] [--out benchmarks/results/peer.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

from _side_by_side import CORES, PYTHON, REAL, ROOT, TOOLS, Used, machine, ratio, requantized, summary, timed, together, warm
from gguf import GGMLQuantizationType, LlamaFileType

LIMITS = {"wall_ratio": 1.0, "wall_ratio_cached": 0.6, "disk_ratio": 0.1, "script_ratio": 20.0}
SAME_KERNELS = ["--no-repack", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"]


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--script", type=int, default=24, help="tokens of the script, which takes seconds for each")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/peer.json")
    options = parser.parse_args()
    if not REAL.is_file() or not (TOOLS / "llama-perplexity").is_file():
        raise SystemExit("NOT-MEASURED: `make real llama-tools` makes the model and the peer")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        candidate = requantized(REAL, place / "q8_0.gguf", GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0)
        text = written(place / "text.txt")
        warm(candidate, text)
        rounds = [measured(place, candidate, text, options) for _ in range(options.repeats)]
        script = timed([PYTHON, ROOT / "benchmarks/_script.py", text, options.script, options.threads, candidate, REAL])
    result = concluded(rounds, script, options)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name in ("wall_ratio", "wall_ratio_cached", "cpu_ratio", "disk_ratio", "script_ratio"):
        print(f"{name:20s} {result[name]:8.3f}   limit {LIMITS.get(name, '–')}")


def written(path: Path) -> Path:
    """The text: the corpus that is in the repository."""
    parts = [file.read_text("utf-8") for file in sorted((ROOT / "zoo/corpus").glob("en-*.txt"))]
    path.write_text("\n".join(parts), "utf-8")
    return path


def measured(place: Path, candidate: Path, text: Path, options: argparse.Namespace) -> dict[str, Used]:
    """Every command once, in turn; Q8_0 is the base, and the published file the candidate."""
    saved, out = place / "base.kld", place / "kl"
    tool = [TOOLS / "llama-perplexity", "-t", str(options.threads), *SAME_KERNELS, "-c", str(options.context)]
    kl = [PYTHON, "-m", "logitproof", "kl", "--threads", str(options.threads), "--out", out]
    windows = ["--context", str(options.context), "--windows", str(options.windows)]
    chunks = ["--chunks", str(options.windows)]
    first = timed([*tool, "-m", candidate, "-f", text, "--kl-divergence-base", saved, *chunks], [saved])
    second = timed([*tool, "-m", REAL, "--kl-divergence-base", saved, "--kl-divergence"])
    whole = timed([*kl, candidate, REAL, "--text", text, *windows], [out])
    cached = timed([*kl, saved, REAL], [out])
    return {"peer": together(first, second), "kl": whole, "cached": cached, "peer_second_pass": second}


def concluded(rounds: list[dict[str, Used]], script: Used, options: argparse.Namespace) -> dict[str, Any]:
    """The file: ratios first, then what they are ratios of."""
    of = {name: [taken[name] for taken in rounds] for name in rounds[0]}
    positions = options.windows * (options.context - 1 - options.context // 2)
    kl_a_position = summary(of["kl"])["wall_s"] / positions
    return {
        "benchmark": "peer",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "wall_ratio": ratio(of["kl"], of["peer"], "wall"),
        "wall_ratio_cached": ratio(of["cached"], of["peer"], "wall"),
        "cpu_ratio": ratio(of["kl"], of["peer"], "cpu"),
        "disk_ratio": ratio(of["kl"], of["peer"], "left"),
        "script_ratio": float(script.out.split()[-1]) / kl_a_position,
        "limits": LIMITS,
        "machine": machine(),
        "model": REAL.name,
        "windows": options.windows,
        "context": options.context,
        "threads": options.threads,
        "repeats": options.repeats,
        "script_tokens": options.script,
        "how": " ".join((__doc__ or "").split("\n\n    python")[0].split()),
        "runs": {name: summary(runs) for name, runs in of.items()},
    }


if __name__ == "__main__":
    main()
