"""A contract at real size: llama.cpp in Q4_K_M and Q8_0 against the streamed float32 reference, and a planted rope fault.

Makes a model of Llama 3 8B's shape, lets llama.cpp continue 4 prompts by 10 tokens in Q8_0, and judges every position of
prompt and continuation, prefill and decode, against the reference, which reads its weights once. Then the base of the rotary
frequencies in one file is made another, and the run must say so. Needs 38 GB of disk, which is looked at first, and hours on
two cores; it is not in CI. Fewer `--layers` or another `--shape` need less of both, and the file says so.

    python benchmarks/8b.py [--shape llama3-8b] [--layers N] [--folder PLACE] [--out benchmarks/results/8b.json]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from logitproof.files.gguf import GgufFile
from logitproof.gguf.write import bytes_of, to_gguf
from logitproof.jobs.worker import Spec, Worker
from logitproof.weights.fabricate import check_disk, fabricate, parameters
from logitproof.weights.shapes import shape

ROOT = Path(__file__).parents[1]
PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 4, 10, 10
TYPES = ("Q4_K_M", "Q8_0")
OTHER_BASE = 10000.0
KL = {"Q8_0": 0.05, "Q4_K_M": 1.5}
"""Mean nats a cell may lose: ten times and three times what fabricated models of fewer layers were seen to lose."""


def main() -> None:
    """Make, check, plant, check, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama3-8b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--folder", type=Path, help="where everything is made; a temporary folder by default")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/8b.json")
    options = parser.parse_args()
    config, begin = shape(options.shape, options.layers), time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        check_disk(place, 2 * parameters(config) + bytes_of(parameters(config), TYPES))
        fabricate(config, place / "model")
        for kind in TYPES:
            to_gguf(place / "model", place / f"model-{kind}.gguf", kind, tokenizer=False)
        made = time.perf_counter()
        write_suite(place, config, options.threads)
        write_contract(place, options.threads)
        healthy = checked(place, "healthy")
        judged = time.perf_counter()
        plant(place / "model-Q4_K_M.gguf")
        planted = checked(place, "planted")
    result = {
        "benchmark": "8b",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "shape": {
            "name": options.shape, "layers": config["num_hidden_layers"], "parameters": parameters(config),
            "layers_of_the_published_model": shape(options.shape)["num_hidden_layers"],
        },
        "status": healthy["status"],
        "cells": healthy["cells"],
        "planted_status": planted["status"],
        "planted_is_named": named(planted),
        "findings": planted["findings"],
        "make_s": round(made - begin, 1),
        "check_s": round(judged - made, 1),
        "whole_s": round(time.perf_counter() - begin, 1),
        "machine": {"cores": os.cpu_count(), "load_at_the_end": [round(load, 1) for load in os.getloadavg()]},
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in ("status", "cells", "planted_status", "planted_is_named")}, indent=1))
    if healthy["status"] != "PASS" or planted["status"] == "PASS" or not result["planted_is_named"]:
        raise SystemExit("the healthy model must pass, and the planted fault must be named")


def write_suite(place: Path, config: dict[str, Any], threads: int) -> None:
    """Prompts with the continuations that llama.cpp chose; each position is then judged by itself."""
    random, prompts = np.random.default_rng(0), []
    spec = Spec("llamacpp", {"threads": threads})
    with Worker(spec, name="llama.cpp") as worker:
        worker.load(place / "model-Q8_0.gguf", place / "model")
        for number in range(PROMPTS):
            ids = [int(token) for token in random.integers(0, config["vocab_size"], PROMPT_TOKENS)]
            made = worker.generate(ids, NEW_TOKENS, [], place / "rows.bin").token_ids
            prompts.append({"id": f"p{number}", "token_ids": [*ids, *made], "max_new_tokens": 0})
    (place / "prompts.suite.yaml").write_text(yaml.safe_dump({"suite": "prompts", "prompts": prompts}))


def write_contract(place: Path, threads: int) -> None:
    """S4: two quantizations of one engine against the original weights."""
    gates = [
        {
            "id": f"kl-{kind.lower().replace('_', '-')}", "metric": "kl_divergence", "statistic": "mean", "at_most": most,
            "where": {"quantization": kind}, "basis": "what fabricated models of fewer layers lose, with room for more layers",
        }
        for kind, most in KL.items()
    ]  # fmt: skip
    basis = "quantization of random weights with a trained model's spectrum; gates hold the mean"
    contract = {
        "contract": "real-size",
        "version": "1.0.0",
        "reference": {"engine": "transformers", "options": {"offload": "stream", "threads": threads}, "timeout": 7200},
        "candidates": {"llamacpp": {"engine": "llamacpp", "options": {"threads": threads}, "timeout": 7200}},
        "models": {"m": {"original": "model"} | {kind: f"model-{kind}.gguf" for kind in TYPES}},
        "suites": ["prompts.suite.yaml"],
        "matrix": {"quantization": list(TYPES), "mode": ["prefill", "decode"]},
        "bands": [{"match": 1.5, "wrong": 6.0, "allow": 0.1, "basis": basis}],
        "gates": gates,
    }
    (place / "real-size.parity.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))


def checked(place: Path, name: str) -> dict[str, Any]:
    """Status, mean KL of every cell and what preflight found, of one run in a process of its own."""
    run = place / name
    command = [sys.executable, "-m", "logitproof", "check", str(place / "real-size.parity.yaml"), "--out", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (run / "verdict.json").is_file():  # a fault of the set-up is told before anything runs
        return {"status": f"exit {done.returncode}", "cells": {}, "findings": (done.stdout + done.stderr)[-4000:].splitlines()}
    verdict = json.loads((run / "verdict.json").read_text())
    shutil.rmtree(run / "store")
    means = {cell["id"]: cell["metrics"].get("kl_divergence", {}).get("mean") for cell in verdict["cells"]}
    findings = [json.dumps(finding) for finding in verdict["preflight"].get("findings", [])]
    if not findings and verdict["status"] != "PASS":
        findings = (done.stdout + done.stderr)[-4000:].splitlines()
    return {"status": verdict["status"], "cells": means, "findings": findings}


def named(planted: dict[str, Any]) -> bool:
    """Whether one line says that the base of the rotary frequencies is another."""
    return any("rope" in line.lower() and f"{OTHER_BASE:.0f}" in line for line in planted["findings"])


def plant(file: Path) -> None:
    """Another base of the rotary frequencies, where the file has its own."""
    key = next(entry for name, entry in GgufFile(file).fields.items() if name.endswith("rope.freq_base"))
    with file.open("r+b") as stream:
        # a key is the length of its name, the name, its type and, of this type, four bytes
        stream.seek(key.offset + 8 + len(key.name.encode()) + 4)
        stream.write(struct.pack("<f", OTHER_BASE))


if __name__ == "__main__":
    main()
