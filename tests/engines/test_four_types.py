"""Weights, activations, accumulation and cache are four things of an arithmetic, and each is predicted by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from logitproof.contract.arithmetic import Arithmetic
from logitproof.engines.transformers import Transformers
from logitproof.reference.noise import Noise, Spec
from logitproof.reference.predict import Predictor

MODEL = Path(__file__).parents[2] / "zoo/qwen3"
IDS = [(7 * at * at + 31 * at) % 1500 for at in range(24)]
OF_WEIGHTS = Arithmetic(base="float32", weights="bfloat16")


def rms(a: np.ndarray, b: np.ndarray) -> float:
    delta = np.asarray(a, np.float64) - b
    return float(np.sqrt(((delta - delta.mean(-1, keepdims=True)) ** 2).mean()))


@pytest.fixture(scope="module")
def finer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with weights that lie between those of bfloat16."""
    folder = tmp_path_factory.mktemp("finer") / "m"
    shutil.copytree(MODEL, folder)
    held = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    moved = {name: value.float() * (1 + 2.0**-9 * torch.rand(value.shape)) for name, value in held.items()}
    save_file({name: value.contiguous() for name, value in moved.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    return folder


def test_weights_in_bfloat16_that_are_computed_in_float32_are_predicted(finer: Path, tmp_path: Path) -> None:
    rounded = tmp_path / "rounded"
    shutil.copytree(finer, rounded)
    held = {name: value.bfloat16().float() for name, value in load_file(finer / "model.safetensors").items()}
    save_file(held, rounded / "model.safetensors", {"format": "pt"})
    engine = Transformers(threads=1)
    engine.load(rounded)
    observed = engine.score(IDS, "prefill").logits

    predictor = Predictor(finer)
    exact = predictor.exact(IDS)
    predicted = predictor.noisy(IDS, OF_WEIGHTS, 1).logits
    assert rms(observed, exact) > 1e-3
    assert rms(predicted, observed) < 0.01 * rms(observed, exact), "rounding of weights is no chance: it is the engine's own"
    assert np.array_equal(predictor.exact(IDS), exact), "the weights are put back"
    narrow = predictor.noisy(IDS, Arithmetic(base="bfloat16"), 1).logits
    assert rms(narrow, exact) > 1.5 * rms(predicted, exact)
    activations = predictor.noisy(IDS, Arithmetic(base="bfloat16", weights="float32"), 1).logits
    assert rms(activations, exact) < rms(narrow, exact)


@pytest.mark.parametrize("length", [256, 1024])
def test_sums_that_grow_in_float16_are_predicted(length: int) -> None:
    random = np.random.default_rng(0)
    rows, weights = random.normal(size=(64, length)), random.normal(size=(length,)) / length**0.5
    grown = np.zeros(64, np.float16)
    for column in range(length):
        grown = (grown + (rows[:, column] * weights[column])).astype(np.float16)
    observed = float(np.sqrt(np.mean((grown - rows @ weights) ** 2)))
    layer = torch.nn.Linear(length, 1, bias=False, dtype=torch.float64)
    layer.weight.data[:] = torch.tensor(weights)
    with torch.inference_mode(), Noise(Spec(sums=Arithmetic(accumulation="float16").summed), layer, 1):
        noisy = layer(torch.tensor(rows))[:, 0].numpy()
    assert 0.5 < float(np.sqrt(np.mean((noisy - rows @ weights) ** 2))) / observed < 2


def test_four_types_are_said_apart() -> None:
    said = Arithmetic(base="float32", weights="bfloat16", accumulation="float16", cache="q8_0")
    assert str(said) == "float32, weights in bfloat16, sums in float16, cache q8_0"
    assert (said.stored, said.computed, said.bits) == ("bfloat16", "float32", 8)
    assert Arithmetic(base="bfloat16", activations="float32").computed == "float32"
    assert Arithmetic(accumulation="bfloat16").bits == 8
    assert Arithmetic().summed == 1.0


def test_an_arithmetic_that_says_nothing_new_keeps_its_calibration() -> None:
    assert "weights" not in Arithmetic(base="bfloat16").identity()
    assert Arithmetic(base="bfloat16").identity() != Arithmetic(base="bfloat16", weights="float32").identity()
