"""`offload: stream` on a model larger than memory, beside the arithmetic that it cannot do without.

Makes a model (`logitproof fabricate`), streams prompts through it in a process of its own, and multiplies plain float32
matrices of the same sizes by as many rows in another. `limit_ratio` is the one's time over the other's, weights read from disk
included. `bit_equal` says whether every zoo model gives the bits of the model in memory, as a folder and as GGUF.

    python benchmarks/stream.py [--shape llama3-8b] [--layers N] [--type BF16] [--prompts 10] [--tokens 80]
                                [--folder PLACE] [--repeats 1] [--out benchmarks/results/stream.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from logitproof.gguf.write import bytes_of, to_gguf
from logitproof.weights.fabricate import check_disk, fabricate, parameters
from logitproof.weights.shapes import shape

ROOT = Path(__file__).parents[1]
LIMITS = {"peak_gib": 4.0, "limit_ratio": 1.5}
ZOO = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")

STREAM = """
import json, sys, time
from pathlib import Path
import torch
from logitproof.reference.layerwise import Ended
from logitproof.reference.model import Loading
from logitproof.reference.streamed import Streamed
model, config, prompts, tokens = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
start = time.perf_counter()
streamed = Streamed(model, config, Loading())
opened = time.perf_counter()
random = torch.Generator().manual_seed(0)
ids = [torch.randint(0, streamed.reference.vocabulary, (tokens,), generator=random) for _ in range(prompts)]
finite = 0
for news in streamed.passes(ids):
    if isinstance(news, Ended):
        if news.error is not None:
            raise news.error
        finite += int(news.result.isfinite().all())
    del news
ended = time.perf_counter()
words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(words["VmHWM"].split()[0]) / 2**20
print(json.dumps({"seconds": ended - opened, "open_s": opened - start, "peak_gib": peak, "finite": finite}))
"""
PRODUCTS = """
import json, sys, time
import torch
sizes, prompts, tokens = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
random = torch.Generator().manual_seed(0)
total = 0.0
for (rows, columns), count in sizes:
    weight = torch.randn(rows, columns, generator=random)
    inputs = [torch.randn(tokens, columns, generator=random) for _ in range(prompts)]
    with torch.inference_mode():
        torch.nn.functional.linear(inputs[0][:1], weight)
        start = time.perf_counter()
        for _ in range(count):
            for rows_in in inputs:
                torch.nn.functional.linear(rows_in, weight)
        total += time.perf_counter() - start
print(json.dumps({"seconds": total}))
"""


def main() -> None:
    """Make, measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama3-8b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--type", default="BF16", help="BF16 is the folder; any other a GGUF file of it")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=80, help="of every prompt")
    parser.add_argument("--folder", type=Path, help="where the model is made; a temporary folder by default")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/stream.json")
    options = parser.parse_args()
    config = shape(options.shape, options.layers)
    quantized = [] if options.type == "BF16" else [options.type]
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        check_disk(Path(place), 2 * parameters(config) + bytes_of(parameters(config), quantized))
        folder = Path(place) / "model"
        fabricate(config, folder)
        model = folder if not quantized else to_gguf(folder, Path(place) / "model.gguf", options.type, tokenizer=False)
        rounds = [measured(model, folder, config, options) for _ in range(options.repeats)]
    result = concluded(rounds, config, options)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, limit in LIMITS.items():
        print(f"{name:12s} {result[name]:8.3f}   limit {limit}")
    print(f"bit_equal    {result['bit_equal']}")


def measured(model: Path, folder: Path, config: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """The pass and the bare products, one after the other."""
    streamed = _run(STREAM, model, folder, options.prompts, options.tokens)
    if streamed["finite"] != options.prompts:
        raise SystemExit(f"{options.prompts - streamed['finite']} prompts gave rows that are not finite")
    products = _run(PRODUCTS, json.dumps(sizes(config)), options.prompts, options.tokens)
    return {**streamed, "products_s": products["seconds"]}


def sizes(config: dict[str, Any]) -> list[tuple[tuple[int, int], int]]:
    """Rows and columns of every matrix that each token is multiplied by, and how often it comes."""
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    if config["model_type"] not in ("llama", "qwen2", "qwen3"):
        raise SystemExit("the arithmetic limit is known of dense models: name llama3-8b, qwen2.5-7b or qwen3-0.6b")
    head = config.get("head_dim") or width // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return [
        ((queries, width), layers),
        ((keys, width), 2 * layers),
        ((width, queries), layers),
        ((inner, width), 2 * layers),
        ((width, inner), layers),
        ((config["vocab_size"], width), 1),
    ]


def concluded(rounds: list[dict[str, float]], config: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The file: what is judged first, then what it rests on."""
    ratios = [taken["seconds"] / taken["products_s"] for taken in rounds]
    return {
        "benchmark": "stream",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "peak_gib": round(max(taken["peak_gib"] for taken in rounds), 3),
        "limit_ratio": round(median(ratios), 3),
        "limit_ratios": [round(ratio, 3) for ratio in ratios],
        "bit_equal": bit_equal(),
        "shape": {
            "name": options.shape, "type": options.type, "layers": config["num_hidden_layers"],
            "layers_of_the_published_model": shape(options.shape)["num_hidden_layers"],
            "hidden_size": config["hidden_size"], "intermediate_size": config["intermediate_size"],
            "vocab_size": config["vocab_size"], "parameters": parameters(config),
            "prompts": options.prompts, "tokens_of_each": options.tokens,
        },
        "seconds": round(median(taken["seconds"] for taken in rounds), 2),
        "products_s": round(median(taken["products_s"] for taken in rounds), 2),
        "open_s": round(median(taken["open_s"] for taken in rounds), 2),
        "limits": LIMITS,
        "machine": {"cores": os.cpu_count(), "load_at_the_end": [round(load, 1) for load in os.getloadavg()]},
    }  # fmt: skip


def bit_equal() -> bool:
    """Whether streamed and loaded models of the zoo give the same bits."""
    import torch

    from logitproof.reference.layerwise import Ended
    from logitproof.reference.model import Loading, load
    from logitproof.reference.streamed import Streamed

    files = [file for name in ZOO for file in (ROOT / "zoo" / name, ROOT / f"zoo/gguf/{name}-Q4_K_M.gguf")]
    if missing := [file for file in files if not file.exists()]:
        raise SystemExit(f"NOT-MEASURED: {missing[0]} is not there; `make zoo` makes it")
    for file in files:
        whole, streamed = load(file), Streamed(file, None, Loading())
        prompts = [torch.arange(count) * 37 % 1400 for count in (19, 7)]
        with torch.inference_mode():
            rows = [whole.model(input_ids=ids[None], use_cache=False).logits for ids in prompts]
        ended = {news.sequence: news.result for news in streamed.passes(prompts) if isinstance(news, Ended)}
        if not all(torch.equal(rows[number], ended[number]) for number in range(len(prompts))):
            return False
    return True


def _run(script: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
