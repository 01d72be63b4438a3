"""Calculated bands against real engines: is the noise predicted, does the band hold, and what does it catch?

* cells: for every zoo family and engine, the RMS logit error that noise at every operation predicts beside the one that is
  observed, and the share of positions inside the 99.9 % band. Positions behind a flip of the experts are reported apart.
* kills: every known bug that one pass over given tokens can show, planted in transformers in float32 and bfloat16, judged by
  the calculated band and the calculated bounds of two gates. A bug is stronger than the noise where what it changes in
  float64 terms is larger than the predicted noise.

    python benchmarks/bands.py [--part cells kills] [--resume] [--out benchmarks/results/bands.json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _bands_page
import numpy as np
import torch

from logitproof import catalog
from logitproof.bands.calculated import METRIC, Calibration, calculated_band, gate_bound, scale, tokens_sha256
from logitproof.calibration.repeat import repeat
from logitproof.comparison.compare import compare
from logitproof.contract.arithmetic import Arithmetic, arithmetic_of
from logitproof.engines.llamacpp import LlamaCpp
from logitproof.engines.plain import Plain
from logitproof.engines.transformers import Transformers
from logitproof.errors import LogitproofError
from logitproof.files.atomic import write_atomically
from logitproof.jobs.worker import Spec, Worker
from logitproof.reference.planted import PREFILL_NEEDS
from logitproof.reference.predict import Predictor
from logitproof.runs.calibrations import Sides

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"
RESULT = ROOT / "benchmarks" / "results" / "bands.json"
FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
TEXTS = ("en-1", "de-2", "ru-1", "code-2")
LENGTH = 112
RUNS = 8
SHORT = 2
"""Sequences on which bugs are planted."""
EXACT = Arithmetic(base="float64")
HERE: Mapping[str, Any] = {"transformers": Transformers, "llamacpp": LlamaCpp, "plain": Plain}
ENGINES: Mapping[tuple[str, str], tuple[dict[str, Any], str]] = {
    ("transformers", "bfloat16"): ({"dtype": "bfloat16"}, "original"),
    ("transformers", "float16"): ({"dtype": "float16"}, "original"),
    ("transformers", "float32"): ({"dtype": "float32"}, "original"),
    ("plain", "float32, NumPy"): ({}, "original"),
    ("llamacpp", "F32"): ({}, "F32"),
    ("llamacpp", "F16"): ({}, "F16"),
    ("llamacpp", "F16, cache f16"): ({"kv_type": "f16"}, "F16"),
    ("llamacpp", "Q8_0"): ({}, "Q8_0"),
    ("llamacpp", "Q4_K_M"): ({}, "Q4_K_M"),
    ("onnxruntime", "float32"): ({}, "original"),
    ("openvino", "f32"): ({}, "original"),
    ("mlx", "float32"): ({"older_config": True}, "original"),
    ("tinygrad", "float32"): ({}, "F32"),
    ("ctranslate2", "float32"): ({}, "original"),
    ("vllm", "float32"): ({}, "original"),
    ("vllm", "bfloat16"): ({"dtype": "bfloat16"}, "original"),
}
"""By engine and precision: its options, and the weights that it reads. Engines in environments of their own
(`make engines`) are left out where they are not installed, with the reason."""
MEASURED = ROOT / "benchmarks" / "results" / "engines.json"
"""What `make bench-engines` found: an engine that computes another model has no noise that could be predicted."""
GATES = ((METRIC, "rms"), ("kl_divergence", "mean"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", nargs="*", choices=["cells", "kills"], default=["cells", "kills"])
    parser.add_argument("--resume", action="store_true", help="keep what the last run measured")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    found: dict[str, Any] = {"cells": [], "kills": {}, "unmeasured": []}
    if chosen.resume and chosen.out.is_file():
        before = json.loads(chosen.out.read_text("utf-8"))
        found |= {name: before[name] for name in ("cells", "kills")}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")) as pool:
        known = {(one["family"], one["engine"], one["precision"]) for one in found["cells"]}
        wanted = [(family, *name) for name in ENGINES for family in FAMILIES] if "cells" in chosen.part else []
        tasks = [pool.submit(cell, *one) for one in wanted if one not in known]
        tasks += [pool.submit(kills, family) for family in FAMILIES if "kills" in chosen.part and family not in found["kills"]]
        for task in as_completed(tasks):
            one = task.result()
            if "reason" in one:
                found["unmeasured"].append(one)
                print(f"{one['engine']} {one['precision']} {one['family']}: {one['reason']}", flush=True)
            elif "precision" in one:
                found["cells"].append(one)
                print(_line(one), flush=True)
            else:
                found["kills"][one["family"]] = one
                print(f"{one['family']}: {len(one['bugs'])} bugs judged", flush=True)
            write_atomically(chosen.out, json.dumps({**summary(found), **found}, indent=1) + "\n")
    result = {**summary(found), **found}
    print({name: value for name, value in result.items() if name not in found})
    if chosen.out == RESULT:
        _bands_page.write(result)
    return 0


def cell(family: str, engine_name: str, precision: str) -> dict[str, Any]:
    """One engine on one family: predicted and observed, in logits against float64 on the same weights."""
    torch.set_num_threads(1)
    options, label = ENGINES[engine_name, precision]
    original, path = ZOO / family, ZOO / family if label == "original" else ZOO / "gguf" / f"{family}-{label}.gguf"
    about = {"engine": engine_name, "precision": precision, "family": family}
    if reason := _another_model(engine_name, options, family):
        return {**about, "reason": reason}
    predictor = Predictor(path, original)
    sequences = texts(predictor)
    try:
        engine = _engine(engine_name, options, path, original)
        given = {ids: np.asarray(engine.score(ids, "prefill").logits) for ids in sequences}
    except LogitproofError as error:
        return {**about, "reason": error.text.splitlines()[0]}
    calibration = calibrated(predictor, arithmetic_of(engine_name, options), sequences, family)
    band = calculated_band(calibration)
    quantized = label not in ("original", "F32")
    truth = Predictor(original) if quantized else predictor
    rows = [
        _observed(predictor, truth, engine, given[ids], calibration, band.match[tokens_sha256(ids)], ids) for ids in sequences
    ]
    joined = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    steady, flipped = ~joined["behind"], joined["flipped"]
    predicted, observed = rms(joined["predicted"][steady]), rms(joined["observed"][steady])
    repeated = list(calibration.sequences.values())
    free = np.concatenate([one.free[METRIC][one.flipped] for one in repeated])
    return {
        **about,
        "positions": int(steady.sum()),
        "predicted_rms": predicted,
        "observed_rms": observed,
        "ratio": predicted / observed,
        "coverage": float((joined["observed"] <= joined["match"])[steady].mean()),
        "predicted_kl": float(np.mean([one.fixed["kl_divergence"].mean() for one in repeated])),
        "observed_kl": float(joined["kl"][steady].mean()),
        "quantization_rms": rms(joined["quantization"]) if quantized else 0.0,
        "flips": {
            "predicted_rate": float(np.mean(np.concatenate([one.flipped.ravel() for one in repeated]))),
            "observed_rate": float(flipped.mean()),
            "positions_behind": int(joined["behind"].sum()),
            "predicted_rms": rms(free) if len(free) else 0.0,
            "observed_rms": rms(joined["observed"][flipped]) if flipped.any() else 0.0,
        },
    }


def _another_model(engine: str, options: Mapping[str, Any], family: str) -> str:
    """The finding that says that this engine does not compute this family, or nothing."""
    label = ", ".join([engine, *(name for name in options if name != "dtype")])
    for one in json.loads(MEASURED.read_text("utf-8"))["cells"]:
        as_it_is = not one["probe"] and one["quantization"] in ("original", "F32")
        if as_it_is and (one["engine"], one["family"], one["status"]) == (label, family, "FAIL"):
            return f"computes another model: {one['cause'].rpartition('; ')[2]}"
    return ""


class _Elsewhere:
    """An engine in a process and an environment of its own."""

    def __init__(self, engine: str, options: dict[str, Any], path: Path, original: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="logitproof-bands-")
        self._worker = Worker(Spec(engine, options, {"OMP_NUM_THREADS": "1"}), name=engine)
        weakref.finalize(self, self._worker.close)
        self._worker.hello()
        self._worker.load(path, original)

    def score(self, ids: Sequence[int], mode: Any) -> Any:
        """Logits in a file, opened."""
        answer = self._worker.score(list(ids), mode, Path(self._folder.name) / "logits.bin")
        return SimpleNamespace(logits=np.array(answer.logits.open()))


def _engine(name: str, options: dict[str, Any], path: Path, original: Path) -> Any:
    if name not in HERE:
        return _Elsewhere(name, options, path, original)
    engine = HERE[name](**options)
    engine.load(path, original)
    return engine


def texts(predictor: Predictor) -> list[tuple[int, ...]]:
    """The beginnings of four documents, two of which no zoo model has seen."""
    return [tuple(predictor.tokenize((ZOO / "corpus" / f"{name}.txt").read_text("utf-8"))[:LENGTH]) for name in TEXTS]


def calibrated(
    predictor: Predictor, arithmetic: Arithmetic | None, sequences: Sequence[tuple[int, ...]], family: str
) -> Calibration:
    """What the arithmetic predicts against float64 on the same weights."""
    assert arithmetic is not None
    sides = Sides(family, "own", "own", EXACT, arithmetic)
    found = {tokens_sha256(ids): repeat(predictor, predictor, sides, ids, RUNS, 0) for ids in sequences}
    about = {"runs": RUNS, "candidate": str(arithmetic), "reference": "float64", "predicted": 0.0, "spread": 1.0}
    return Calibration(family, about, found)


def _observed(
    predictor: Predictor,
    truth: Predictor,
    engine: Any,
    logits: np.ndarray,
    calibration: Calibration,
    match: np.ndarray,
    ids: tuple[int, ...],
) -> dict[str, np.ndarray]:
    exact = predictor.exact(ids)
    found = compare(exact, logits, labels=labels_of(ids)).metrics
    flipped, behind = _flips(predictor, engine, ids)
    apart = exact - truth.exact(ids)
    apart -= apart.mean(axis=1, keepdims=True)
    return {
        "observed": np.asarray(found[METRIC]),
        "kl": np.asarray(found["kl_divergence"]),
        "predicted": scale(calibration.sequences[tokens_sha256(ids)].fixed[METRIC]),
        "match": match,
        "quantization": np.sqrt((apart**2).mean(axis=1)),
        "flipped": flipped,
        "behind": behind,
    }


def _flips(predictor: Predictor, engine: Any, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions at which the engine chose other experts, and those that can feel it: themselves, and later ones below."""
    flipped = np.zeros(len(ids), bool)
    behind = flipped.copy()
    layers = predictor.routes_of(ids)
    if not layers or not isinstance(engine, Transformers | LlamaCpp):
        return flipped, behind
    taps = engine.taps(ids, "prefill", ["layers.*.moe.index"], {})
    for number, (ours, name) in enumerate(zip(layers, sorted(taps, key=_layer), strict=True)):
        other = (np.sort(taps[name].astype(int), axis=-1) != ours).any(axis=-1)
        flipped |= other
        behind |= other if number == len(layers) - 1 else np.logical_or.accumulate(other)
    return flipped, behind


def _layer(tap: str) -> int:
    return int(tap.split(".")[1])


def kills(family: str) -> dict[str, Any]:
    """Every bug that one pass can show, in both types, judged by what is calculated for that type."""
    torch.set_num_threads(1)
    predictor = Predictor(ZOO / family)
    sequences = texts(predictor)[:SHORT]
    exact = [predictor.exact(ids) for ids in sequences]
    bugs: dict[str, dict[str, Any]] = {}
    noises: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        calibration = calibrated(predictor, arithmetic_of("transformers", {"dtype": dtype}), sequences, family)
        band = calculated_band(calibration)
        noises[dtype] = rms(np.concatenate([scale(one.fixed[METRIC]) for one in calibration.sequences.values()]))
        places = [(ids, range(len(ids))) for ids in sequences]
        bounds = {gate: gate_bound(calibration, *gate, places, at_most=True) for gate in GATES}
        engine = Transformers(dtype=dtype)  # type: ignore[arg-type]
        engine.load(ZOO / family)
        for name, mutation in (("", None), *_mutations(engine.reference.model.config)):
            with mutation.applied_to(engine.reference.model) if mutation else nullcontext():
                try:
                    logits = [engine.score(ids, "prefill").logits for ids in sequences]
                except RuntimeError as error:
                    bugs.setdefault(name, {})[dtype] = {"error": str(error).partition("\n")[0]}
                    continue
            rows = [compare(a, b, labels=labels_of(ids)) for a, b, ids in zip(exact, logits, sequences, strict=True)]
            bugs.setdefault(name, {})[dtype] = _judged(rows, sequences, band, bounds, noises[dtype])
    return {"family": family, "noise": noises, "healthy": bugs.pop(""), "bugs": bugs}


def _mutations(config: Any) -> Iterator[tuple[str, Any]]:
    for name in catalog.entries("mutations"):
        kind = catalog.load("mutations", name)
        if not kind.equivalent and kind.needs in PREFILL_NEEDS and (mutation := kind()).applies(config):
            yield name, mutation


def _judged(
    rows: Sequence[Any], sequences: Sequence[tuple[int, ...]], band: Any, bounds: Mapping[Any, float], noise: float
) -> dict[str, Any]:
    """The effect over the noise, and whether the band or a gate is left; a logit that is no number is always outside."""
    if any(one.nonfinite.size for one in rows):
        return {"effect": None, "outside": 1.0, "by": "not finite"}
    values = {name: np.concatenate([one.metrics[name] for one in rows]) for name in (METRIC, "kl_divergence")}
    match = np.concatenate([band.match[tokens_sha256(ids)] for ids in sequences])
    outside = float((~(values[METRIC] <= match)).mean())
    observed = {(METRIC, "rms"): rms(values[METRIC]), ("kl_divergence", "mean"): float(values["kl_divergence"].mean())}
    by = ["band"] if outside > band.beyond else []
    by += [f"{statistic} {metric}" for (metric, statistic), bound in bounds.items() if not observed[metric, statistic] <= bound]
    return {"effect": observed[METRIC, "rms"] / noise, "outside": outside, "by": ", ".join(by)}


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are promised. A bug is stronger than the noise of a type where its effect in float32 is."""
    cells = found["cells"]
    positions = sum(one["positions"] for one in cells)
    judged = list(_pairs(found["kills"]))
    strong = [one for one in judged if one["effect"] is None or one["effect"] > 1]
    names = {one["name"] for one in judged}
    killed = {one["name"] for one in judged if one["by"]}
    return {
        "cells_measured": len(cells),
        "cells_within_2x": sum(0.5 <= one["ratio"] <= 2 for one in cells),
        "coverage": sum(one["coverage"] * one["positions"] for one in cells) / positions if positions else None,
        "mutations": len(names),
        "killed_by_band": len(killed),
        "stronger_than_noise": len(strong),
        "stronger_and_outside": sum(bool(one["by"]) for one in strong),
        "false_alarms": sum(bool(one["by"]) for row in found["kills"].values() for one in row["healthy"].values()),
    }


def _pairs(kills: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Bug, family and type: `effect` is what the bug does without rounding over the noise of the type."""
    for family, row in kills.items():
        for name, types in row["bugs"].items():
            for dtype, one in types.items():
                if "error" in one or "error" in types.get("float32", {}):
                    continue
                bare = types["float32"]["effect"]
                effect = bare if bare is None else bare * row["noise"]["float32"] / row["noise"][dtype]
                yield {"family": family, "name": name, "dtype": dtype, "effect": effect, "by": one["by"]}


def labels_of(ids: Sequence[int]) -> np.ndarray:
    """The token that follows each, -1 at the end."""
    return np.array([*ids[1:], -1], np.int64)


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def _line(one: Mapping[str, Any]) -> str:
    return (
        f"{one['engine']:13} {one['precision']:15} {one['family']:10} predicted {one['predicted_rms']:.3e} "
        f"observed {one['observed_rms']:.3e} ratio {one['ratio']:.2f} coverage {one['coverage']:.4f} over {one['positions']}"
    )


if __name__ == "__main__":
    sys.exit(main())
