"""Generation quality of two real engines on the zoo, eight planted faults, and the two-sample test's error rates."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import _quality_page
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from logitproof import catalog
from logitproof.comparison.chance import wilson
from logitproof.comparison.compare import compare
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import open_suite
from logitproof.jobs.session import open_side
from logitproof.jobs.spec import Side
from logitproof.jobs.worker import Spec
from logitproof.jobs.workers import Workers
from logitproof.protocol.messages import Mode
from logitproof.protocol.sampler import Sampling
from logitproof.quality.adapters import adapter_distances
from logitproof.quality.draws import Drawing, compared_candidates, draw, replayed_side
from logitproof.quality.horizon import horizon
from logitproof.quality.sections import BOUNDARIES, Quality, qualities
from logitproof.quality.synchronized import Synchronized
from logitproof.quality.two_sample import two_sample
from logitproof.runs.workspace import Workspace

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "quality.json"
ZOO = ROOT / "zoo"
BASIS = "the bar that release notes quote"
HF: dict[str, Any] = {"engine": "transformers", "options": {"dtype": "float32", "threads": 1}}
TRIALS = 200
LOUD = 4
"""Factor on the adapter of the tests: it must change the model by much more than the bar, else its loss proves nothing."""
SAMPLE = Drawing(completions=24, max_new_tokens=32, sampling=Sampling(0.7), permutations=200)
"""As `logitproof sample` draws by default."""
PENALIZED = replace(SAMPLE, sampling=replace(SAMPLE.sampling, repetition_penalty=1.1))
TOGETHER = 5
WARM, HOT = Sampling(0.7), Sampling(1.6, top_p=0.7)
SUITE = {
    "suite": "planted",
    "max_new_tokens": 40,
    "prompts": [one.model_dump(exclude_none=True) for one in open_suite("smoke-10", Path()).prompts],
}


def contract(folder: Path, **changes: Any) -> Path:
    """A contract of one candidate against HF float32, with the three modes."""
    data = {
        "contract": "quality-bench",
        "reference": HF,
        "models": {"qwen3": {"original": str(ZOO / "qwen3")}},
        "suites": ["suite.yaml"],
        "matrix": {"mode": ["prefill", "decode", "greedy"]},
        "bands": [{"match": 0.05, "wrong": 0.4, "allow": 0.01, "basis": BASIS}],
        "gates": [
            {"id": "kl", "metric": "kl_divergence", "at_most": 0.01, "basis": BASIS, "where": {"mode": ["prefill", "decode"]}}
        ],
        "error_bar": {"vary": ["decode"], "prompts": 1},
        **changes,
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE, allow_unicode=True), "utf-8")
    path = folder / "quality.parity.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
    return path


def measured(path: Path, sampling: Sampling, *, tested: bool = True) -> list[Quality]:
    """Run a contract and put its sections together."""
    opened = open_contract(path)
    report = Workspace(path.parent / "run").check(opened, parallel=2)
    drawing = replace(SAMPLE, sampling=sampling, completions=24)
    tests = compared_candidates(opened, list(report.compared), drawing) if tested else {}
    return qualities(report, sampling, tests, adapters=adapter_distances(report))


def clean() -> list[dict[str, Any]]:
    """HF bfloat16 and llama.cpp F16 on both models, over the hundred prompts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {
            model: {"original": str(ZOO / model), "F16": str(ZOO / f"gguf/{model}-F16.gguf")} for model in ("qwen3", "qwen3.5")
        }
        candidates = {
            "llamacpp": {"engine": "llamacpp", "options": {"threads": 1, "kv_type": "f32"}, "only": {"quantization": "F16"}},
            "bf16": {
                "engine": "transformers",
                "options": {"dtype": "bfloat16", "threads": 1},
                "only": {"quantization": "original"},
            },
        }
        matrix = {"quantization": ["original", "F16"], "mode": ["prefill", "decode", "greedy"]}
        path = contract(folder, models=models, candidates=candidates, matrix=matrix, suites=["quality-100"])
        found = measured(path, Sampling(0.7))
    return [
        {
            "engine": one.candidate,
            "model": f"{one.model} {one.quantization}",
            "greedy10": one.section("greedy").figures["match10"]["value"],
            "greedy10_strict": one.section("greedy").figures["match10_strict"]["value"],
            "greedy50": one.section("greedy").figures["match50"]["value"],
            "kl_mean_100": one.section("teacher forcing").figures["kl_divergence"]["mean"],
            "meets_bar": one.meets_bar,
            "missed": [section.name for section in one.sections if section.met == "missed"],
        }
        for one in found
    ]


def mutated(name: str, **more: Any) -> dict[str, Any]:
    return {"candidates": {"mine": {**HF, "options": {**HF["options"], "mutation": name, **more}}}}


def with_adapter(folder: Path) -> dict[str, Any]:
    """The reference applies an adapter; the candidate is given one of the same shape whose product is zero."""
    sys.path.insert(0, str(ROOT / "tests/engines"))
    from safetensors.numpy import load_file, save_file
    from test_lora import make_adapter

    adapter, dead = make_adapter(folder / "adapter", "qwen3"), make_adapter(folder / "dead", "qwen3")
    for path, factor in ((adapter, LOUD), (dead, 0)):
        tensors = load_file(path / "adapter_model.safetensors")
        scaled = {name: one * np.float32(factor) if "lora_B" in name else one for name, one in tensors.items()}
        save_file(scaled, path / "adapter_model.safetensors")
    sides = [{**HF, "options": {**HF["options"], "adapter": str(path)}} for path in (adapter, dead)]
    return {"reference": sides[0], "candidates": {"mine": sides[1]}}


def with_template(folder: Path) -> dict[str, Any]:
    """A candidate whose copy of the model has a chat template with another line end."""
    copy = folder / "model"
    shutil.copytree(ZOO / "qwen3", copy)
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("<|im_end|>", "<|im_end|> "), "utf-8")
    return {
        "models": {"qwen3": {"original": str(ZOO / "qwen3"), "copy": str(copy)}},
        "candidates": {"mine": HF},
        "matrix": {"quantization": ["copy"], "mode": ["prefill", "decode", "greedy"]},
    }


FAULTS: dict[str, tuple[Callable[[Path], dict[str, Any]], tuple[str, ...], Sampling]] = {
    "mask": (lambda _: mutated("attention.mask_sees_next"), ("teacher forcing",), WARM),
    "rope": (lambda _: mutated("rope.base"), ("teacher forcing",), WARM),
    "repetition penalty": (lambda _: mutated("sampling.hidden_repetition_penalty"), ("set-up", "greedy"), WARM),
    "temperature order": (lambda _: mutated("sampling.temperature_after_truncation"), ("sampler",), HOT),
    "dropped LoRA": (with_adapter, ("adapter",), WARM),
    "chat template": (with_template, ("set-up",), WARM),
    "KV slot": (lambda _: mutated("kv.stale_slot"), ("cache",), WARM),
    "quantized block type": (lambda _: mutated("weights.q4_k_scale_min_swapped"), ("teacher forcing",), WARM),
}
"""The fault, the sections of which one must be missed, and how completions are drawn."""


def planted() -> list[dict[str, Any]]:
    """Every fault, and the sections that it misses."""
    rows = []
    for name, (make, wanted, sampling) in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = contract(Path(folder), **make(Path(folder)))
            found = measured(path, sampling, tested="sampler" in wanted)
        sections = [section for one in found for section in one.sections if section.met == "missed"]
        missed = [section.name for section in sections]
        said = next((section.said for section in sections if section.name in wanted), "")
        caught = bool(set(missed) & set(wanted))
        rows.append({"fault": name, "wanted": wanted, "missed": missed, "caught": caught, "said": said})
        print(f"{name}: missed {missed}; {said[:100]}", flush=True)
    return rows


def sampler_rates(parallel: int) -> dict[str, Any]:
    """Rejections at 5 % of an engine against itself, and against itself with a repetition penalty of 1.1."""
    parts = [range(start, TRIALS, parallel) for start in range(parallel)]
    with ThreadPoolExecutor(parallel) as pool:
        found = list(pool.map(trials, parts))
    equal, other = ([one for part in found for one in part[side]] for side in (0, 1))
    return {
        "sample_trials": len(equal),
        "sample_false_positives": float(np.mean(equal)),
        "sample_false_positives_interval": wilson(sum(equal), len(equal)),
        "sample_power": float(np.mean(other)),
        "sample_power_interval": wilson(sum(other), len(other)),
        "sample_power_trials": len(other),
    }


def trials(numbers: range) -> tuple[list[bool], list[bool]]:
    """Rejections of equal samplers in these trials, and of a penalized one in every fourth.

    Completions are independent however they are batched, so those of several trials are drawn together.
    """
    side = Side(Spec("transformers", HF["options"], timeout=1800), ZOO / "qwen3")
    texts = [one.text for one in open_suite("smoke-10", Path()).prompts if one.text]
    equal, other = [], []
    with Workers() as workers:
        worker = open_side(workers, side)
        prompts = [worker.tokenize(text) for text in texts]
        for start in range(0, len(numbers), TOGETHER):
            block = numbers[start : start + TOGETHER]
            right = replace(SAMPLE, completions=2 * len(block) * SAMPLE.completions)
            pool = shares(draw(worker, prompts, [], right, block[0]))
            for first, second, number in zip(pool[::2], pool[1::2], block, strict=True):
                equal.append(two_sample(first, second, permutations=SAMPLE.permutations, seed=number).differs(0.05))
            every = [at for at, number in enumerate(block) if number % 4 == 0]
            if every:
                wrong = replace(PENALIZED, completions=len(every) * SAMPLE.completions)
                for at, third in zip(every, shares(draw(worker, prompts, [], wrong, 900_000 + block[0])), strict=True):
                    other.append(two_sample(pool[2 * at], third, permutations=SAMPLE.permutations, seed=at).differs(0.05))
            print(f"{len(equal)} trials: {sum(equal)} false, {sum(other)} of {len(other)} seen", flush=True)
    return equal, other


def shares(drawn: list[list[list[int]]]) -> list[list[list[list[int]]]]:
    """Completions by prompt, cut into samples of the size of a trial."""
    size = SAMPLE.completions
    return [[one[start : start + size] for one in drawn] for start in range(0, len(drawn[0]), size)]


def seeded() -> list[dict[str, Any]]:
    """Tokens that engines drew from a seed, foretold: of the right samplers all, of every wrong one not."""
    bugs = [name for name in catalog.entries("mutations") if name.startswith("sampling.")]
    qwen3, file = ZOO / "qwen3", ZOO / "gguf/qwen3-F16.gguf"
    sides = {
        "transformers float32": Side(Spec("transformers", HF["options"]), qwen3),
        "transformers bfloat16": Side(Spec("transformers", HF["options"] | {"dtype": "bfloat16"}), qwen3),
        "llamacpp F16": Side(Spec("llamacpp", {"threads": 1}), file, qwen3),
    }
    sides |= {name: Side(Spec("transformers", HF["options"] | {"mutation": name}), qwen3) for name in bugs}
    prompts = open_suite("smoke-10", Path()).prompts
    rows = []
    for name, side in sides.items():
        with Workers() as workers:
            found = replayed_side(workers, side, prompts)
        assert isinstance(found, Synchronized), found
        row = {"sampler": name, "bug": name in bugs, "draws": found.draws, "equal": found.equal, "ties": found.ties}
        rows.append(row | {"wrong": len(found.faults)})
        print(rows[-1], flush=True)
    return rows


def long() -> list[dict[str, Any]]:
    """KL by position over four thousand tokens, against HF float32 in one pass."""
    rows = []
    for model in ("qwen3", "qwen3.5"):
        file, folder = ZOO / f"gguf/{model}-F16.gguf", ZOO / model
        reference, tokens = scored(Side(Spec("transformers", HF["options"], timeout=1800), folder), "prefill")
        sides: dict[str, tuple[Side, Mode]] = {
            "llamacpp F16, one pass": (Side(Spec("llamacpp", {"threads": 1}), file, folder), "prefill"),
            "llamacpp F16, through the cache": (Side(Spec("llamacpp", {"threads": 1}), file, folder), "decode"),
            "RoPE positions in bfloat16": (
                Side(Spec("transformers", HF["options"] | {"mutation": "rope.low_precision.positions"}, timeout=1800), folder),
                "prefill",
            ),
        }
        for name, (side, mode) in sides.items():
            theirs, _ = scored(side, mode, tokens)
            kl = [
                compare(ours, other, labels=np.array([*ids[1:], -1], np.int64)).metrics["kl_divergence"]
                for ours, other, ids in zip(reference, theirs, tokens, strict=True)
            ]
            found = horizon(kl, BOUNDARIES)
            rows.append({"engine": name, "model": model, "positions": [len(ids) for ids in tokens], **asdict(found)})
            print(f"{name} on {model}: position^{found.growth:.2f}, last {found.bins[-1][2]:.2g} nats", flush=True)
    return rows


def scored(side: Side, mode: Mode, tokens: list[list[int]] | None = None) -> tuple[list[np.ndarray], list[list[int]]]:
    """Rows [T, V] of every text of the long suite, and its tokens."""
    with Workers() as workers, tempfile.TemporaryDirectory() as folder:
        worker = open_side(workers, side)
        tokens = tokens or [worker.tokenize(one.text or "") for one in open_suite("horizon-4k", Path()).prompts]
        return [np.array(worker.score(ids, mode, Path(folder) / "logits.bin").logits.open()) for ids in tokens], tokens


def measure(part: str, parallel: int) -> dict[str, Any]:
    """What a part adds to the results."""
    if part == "planted":
        faults = planted()
        return {"planted": len(faults), "caught": sum(one["caught"] for one in faults), "faults": faults}
    if part == "sampler":
        return sampler_rates(parallel)
    rows = {"clean": clean, "seeded": seeded, "horizon": long}[part]()
    return {"cells" if part == "clean" else part: rows}


PARTS = ("planted", "clean", "seeded", "horizon", "sampler")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="others keep their last results")
    parser.add_argument("--parallel", type=int, default=2, help="processes of the trials")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    for part in arguments.part:
        begin = time.monotonic()
        found = measure(part, arguments.parallel)
        result = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        seconds = result.get("seconds", {}) | {part: round(time.monotonic() - begin, 1)}
        arguments.out.write_text(json.dumps(result | found | {"seconds": seconds}, indent=1) + "\n")
    result = json.loads(arguments.out.read_text())
    show(result)
    if arguments.out == RESULT:
        _quality_page.write(result)


def show(result: dict[str, Any]) -> None:
    """The results as a table and a sentence a part."""
    table = Table("engine", "model", "greedy@10", "strict", "greedy@50", "mean KL", "meets its bar")
    for cell in result.get("cells", []):
        shares = (f"{cell[key]:.2%}" for key in ("greedy10", "greedy10_strict", "greedy50"))
        table.add_row(
            cell["engine"], cell["model"], *shares, f"{cell['kl_mean_100']:.2e}", "yes" if cell["meets_bar"] else "no"
        )
    Console().print(table)
    if "planted" in result:
        print(f"{result['caught']} of {result['planted']} planted faults are caught in the right section")
    if "sample_trials" in result:
        print(
            f"sampler test: {result['sample_false_positives']:.1%} false over {result['sample_trials']} trials, "
            f"power {result['sample_power']:.0%} over {result['sample_power_trials']}"
        )


if __name__ == "__main__":
    main()
