"""Who agrees on a probe: two independent engines at every precision, and what was measured of each."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from logitproof.acid.acid import measure
from logitproof.acid.probe import FACTOR, Probe, read_probe
from logitproof.acid.subject import Subject, Weights
from logitproof.errors import EngineGarbage
from logitproof.jobs.worker import Spec
from logitproof.rows.distance import distances

os.environ["OMP_NUM_THREADS"] = "1"
RUNS: list[tuple[str, dict[str, Any], Weights]] = [
    ("transformers", {"dtype": "float32", "attention": "eager"}, "folder"),
    ("transformers", {"dtype": "float32", "attention": "sdpa"}, "folder"),
    ("transformers", {"dtype": "float32", "attention": "eager", "chunk": 7}, "folder"),
    ("plain", {"dtype": "float32"}, "folder"),
    ("llamacpp", {}, "F32"),
    ("llamacpp", {"batch_size": 7}, "F32"),
    ("transformers", {"dtype": "float16"}, "folder"),
    ("llamacpp", {"kv_type": "f16", "flash_attention": True}, "F16"),
    ("llamacpp", {"kv_type": "f16"}, "F32"),
    ("transformers", {"dtype": "bfloat16"}, "folder"),
    ("llamacpp", {"kv_type": "bf16"}, "BF16"),
]
AGREE = 2e-4
"""Two engines agree in float32 where no row differs by more than this part of the logits' own spread."""


class Disagreement(Exception):
    """Engines that take a probe do not give the same logits."""


def witnesses(folders: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """By probe, each run of each engine: versions, precision and the largest distance of each case; or why it did not run.

    An engine is started once for each of its runs and goes through all probes.
    """
    found: dict[str, list[dict[str, Any]]] = {folder.name: [] for folder in folders}
    for engine, options, weights in RUNS:
        with tempfile.TemporaryDirectory() as scratch, Subject(Spec(engine, options), Path(scratch), weights) as subject:
            for folder in folders:
                found[folder.name].append(_run(subject, read_probe(folder), weights))
    return found


def bands(record: dict[str, Any], truth: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """The band of each case by precision; refuses a probe on which engines that take it do not agree in float32.

    A precision in which some witness gives no numbers has none: its range does not hold the model.
    """
    made = []
    beyond = {one["precision"] for one in record["witnesses"] if "absent" in one and "precision" in one}
    for case in record["cases"]:
        spread = float(distances(np.zeros_like(truth[case["name"]]), truth[case["name"]]).mean())
        band: dict[str, float] = {}
        for one in record["witnesses"]:
            if "distances" in one and one["precision"] not in beyond:
                value = FACTOR * one["distances"][case["name"]]
                band[one["precision"]] = max(band.get(one["precision"], 0.0), value)
        agreeing = {one["engine"] for one in record["witnesses"] if _agreement(one, case["name"]) <= AGREE * spread}
        asked = {one["engine"] for one in record["witnesses"] if "distances" in one}
        if agreeing != asked or len(agreeing) < 2:
            worst = {
                f"{one['engine']} {one['options']}": one.get("distances", one.get("absent")) for one in record["witnesses"]
            }
            raise Disagreement(f"{case['name']}: spread {spread}: only {agreeing} agree: {worst}")
        made.append({name: float(f"{value:.3g}") for name, value in band.items() if np.isfinite(value)})
    return made


def _agreement(witness: dict[str, Any], case: str) -> float:
    """How far a witness was in float32, but for what is known to be narrower; infinite where it was not asked."""
    if witness.get("precision") == "float32":
        return float(witness["distances"][case])
    return float(witness.get("with_the_same_gelu", {}).get(case, np.inf))


def _run(subject: Subject, probe: Probe, weights: Weights) -> dict[str, Any]:
    about: dict[str, Any] = {"engine": subject.spec.engine, "options": subject.spec.options, "weights": weights}
    try:
        loaded = subject.load(probe)
    except Exception as error:
        return about | {"absent": str(error).replace(f"{probe.folder.parent}/", "")}
    hello = subject.hello()
    about["precision"] = subject.precision(loaded)
    about["versions"] = {
        name: hello.versions[name] for name in ("transformers", "torch", "llama.cpp", "llama_cpp") if name in hello.versions
    }
    try:
        logits = {(case.name, mode): subject.score(case.token_ids, mode) for mode in hello.modes for case in probe.cases}
    except EngineGarbage as error:
        return about | {"absent": str(error).replace(f"{probe.folder.parent}/", "")}
    if "gelu" in loaded.details.get("arithmetic", {}) and weights == "F32" and "kv_type" not in about["options"]:
        about["with_the_same_gelu"] = _with_float16_gelu(probe, {name: rows for (name, mode), rows in logits.items()})
    measured = [measure(probe.case(name), rows, mode, None) for (name, mode), rows in logits.items()]
    worst = {case.name: max(one.distance for one in measured if one.case == case.name) for case in probe.cases}
    return about | {"distances": {name: float(f"{value:.3g}") for name, value in worst.items()}}


def _with_float16_gelu(probe: Probe, logits: dict[str, np.ndarray]) -> dict[str, float]:
    """Median distance of `logits` from the reference whose GELU is looked up in a table of float16, as ggml's is on CPUs.

    Without it the two differ by the rounding of the table. The median, because a value that the engines place on
    two sides of a rounding step still differs by all of it.
    """
    options = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = transformers.AutoModelForCausalLM.from_pretrained(probe.folder, dtype=torch.float32, **options).eval()
    for module in model.modules():
        if "act_fn" in module._modules:
            module.act_fn = _TableGelu()
    found = {}
    with torch.inference_mode():
        for case in probe.cases:
            rows = model(torch.tensor([case.token_ids]), use_cache=False).logits[0].numpy()
            found[case.name] = float(f"{np.median(distances(rows, logits[case.name])):.3g}")
    return found


class _TableGelu(torch.nn.Module):  # type: ignore[misc]
    """tanh GELU of the value rounded to float16, itself rounded to float16; beyond 10 the value or zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        looked_up = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x <= -10, torch.zeros_like(x), torch.where(x >= 10, x, looked_up))
