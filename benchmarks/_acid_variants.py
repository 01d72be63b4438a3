"""No false alarm: engines that are right, in every way that they can be run, on every probe that they take."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logitproof.acid.acid import judged, measure
from logitproof.acid.probe import Probe, open_probes
from logitproof.acid.subject import Subject, Weights
from logitproof.errors import ContractError, LogitproofError
from logitproof.jobs import environments
from logitproof.jobs.worker import Spec

WRONG_IN_MLX = {
    "gemma2": "mlx-lm attends beyond the window",
    "mistral": "mlx-lm attends beyond the window",
    "llama-gelu": "mlx-lm computes SiLU in every Llama",
    "gemma3": "mlx-lm fails with `list index out of range`",
    "qwen3.5": "mlx-lm rounds the norms to bfloat16 when it loads them",
}
"""Probes on which an alarm is not false: what mlx-lm 0.32.2 does otherwise than the config says."""
IN_PREFILL_ALONE = {"chunk", "batch", "padding", "batch_size", "ubatch_size", "prefill_step_size"}
"""Options that decode does not see."""


@dataclass(frozen=True)
class Variant:
    """One right way to run an engine."""

    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: Weights = "folder"
    environment: dict[str, str] = field(default_factory=dict)
    precision: str | None = None
    name: str = ""
    without: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        words = [f"{key}={value}" for key, value in (self.options | self.environment).items()]
        return " ".join([self.name or self.engine, self.weights, *words])


def variants() -> list[Variant]:
    """All of them; those whose engine is not installed are not among them."""
    return [*_transformers(), *_llamacpp(), *_others()]


def measure_all(probes: list[str] | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """How many variants were run, on how many probes, and every alarm that one of them raised."""
    alarms: list[str] = []
    refused: dict[str, list[str]] = {}
    rows = 0
    chosen = variants()
    judged_on: dict[str, int] = {}
    for variant in chosen:
        results = list(_run(variant, open_probes(probes)))
        rows += len(results)
        for probe, status, text in results:
            if status == "PASS":
                judged_on[variant.label] = judged_on.get(variant.label, 0) + 1
            elif status == "NOT-MEASURED":
                refused.setdefault(variant.label, []).append(f"{probe}: {text}")
            else:
                alarms.append(f"{variant.label}: {probe}: {status} {text}")
        say(f"{variant.label}: {judged_on.get(variant.label, 0)} of {len(results)} probes, {len(alarms)} alarms so far")
    return {
        "good_variants": len(judged_on),
        "good_engines": sorted(
            {variant.name.partition(",")[0] or variant.engine for variant in chosen if variant.label in judged_on}
        ),
        "judgements": sum(judged_on.values()),
        "false_alarms": len(alarms),
        "alarms": alarms,
        "not_measured": {label: [text[:160] for text in texts] for label, texts in refused.items()},
        "variants_run": judged_on,
    }


def _run(variant: Variant, probes: list[Probe]) -> Iterator[tuple[str, str, str]]:
    spec = Spec(variant.engine, variant.options, environment={"OMP_NUM_THREADS": "1"} | variant.environment)
    with tempfile.TemporaryDirectory() as scratch, Subject(spec, Path(scratch), variant.weights) as subject:
        for probe in probes:
            if probe.name in variant.without:
                yield probe.name, "NOT-MEASURED", variant.without[probe.name]
                continue
            try:
                loaded = subject.load(probe)
                used = variant.precision or subject.precision(loaded, probe)
                if not probe.judges(used):
                    yield probe.name, "NOT-MEASURED", f"no band for {used}"
                    continue
                modes = subject.hello().modes
                found = [
                    measure(case, subject.score(case.token_ids, mode), mode, case.band.get(used))
                    for mode in modes
                    for case in probe.cases
                    # all sequences through the cache are the acid run's own business
                    if mode == "prefill" or (case.name == "text" and not IN_PREFILL_ALONE & set(variant.options))
                ]
            except ContractError as error:
                yield probe.name, "NOT-MEASURED", _without_place(error.text, probe)
                continue
            except LogitproofError as error:
                yield probe.name, "ERROR", _without_place(error.text, probe)
                continue
            row = judged(probe.name, found, used)
            worst = row.worst
            yield probe.name, row.status, f"{worst.case} {worst.mode}: {worst.ratio:.3g} × band" if worst else row.reason


def _without_place(text: str, probe: Probe) -> str:
    """Where this checkout lies is nobody's business."""
    return text.replace(f"{probe.folder.parent}/", "")


def _transformers() -> Iterator[Variant]:
    shapes: tuple[dict[str, Any], ...] = ({}, {"chunk": 7}, {"batch": 3}, {"batch": 2, "padding": "left"})
    for dtype, attention, shape in itertools.product(("float32", "bfloat16", "float16"), ("eager", "sdpa"), shapes):
        yield Variant("transformers", {"dtype": dtype, "attention": attention} | shape)
    for dtype in ("float32", "bfloat16", "float16"):
        yield Variant("transformers", {"dtype": dtype, "threads": 2}, environment={"OMP_NUM_THREADS": "2"})
        yield Variant("transformers", {"dtype": dtype}, environment={"ATEN_CPU_CAPABILITY": "avx2"})
        yield Variant("transformers", {"dtype": dtype}, environment={"ATEN_CPU_CAPABILITY": "default"})
        yield Variant("transformers", {"dtype": dtype}, environment={"ONEDNN_MAX_CPU_ISA": "AVX2"})


def _llamacpp() -> Iterator[Variant]:
    caches: tuple[dict[str, Any], ...] = (
        {},
        {"kv_type": "f16"},
        {"kv_type": "f16", "flash_attention": True},
        {"kv_type": "bf16"},
        {"kv_type": "bf16", "flash_attention": True},
    )
    for weights, cache in itertools.product(("F32", "F16", "BF16"), caches):
        yield Variant("llamacpp", cache, weights)
    for own in ({"batch_size": 7}, {"ubatch_size": 16}, {"threads": 2}, {"sequences": 3}, {"repack": True}, {"mmap": False}):
        yield Variant("llamacpp", own, "F32")
        yield Variant("llamacpp", own | {"kv_type": "f16", "flash_attention": True}, "F16")


def _others() -> Iterator[Variant]:
    for dtype in ("float32", "float64"):
        yield Variant("plain", {"dtype": dtype})
    if environments.installed("mlx"):
        for size in (2048, 7):
            own = {"older_config": True, "prefill_step_size": size}
            yield Variant("mlx", own, name="mlx", without=WRONG_IN_MLX)
