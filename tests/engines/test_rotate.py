"""Rotation by itself changes no logit; a wrong one is outside the float32 band; 4 bits come after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.errors import ContractError
from logitproof.weights.rotate import hadamard, random_orthogonal, rotate

ZOO = Path(__file__).parents[2] / "zoo"
IDS = torch.tensor(np.random.default_rng(1).integers(3, 1000, (1, 48)))


def logits(folder: Path) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(IDS).logits[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(0, 99))
def test_the_matrix_is_orthogonal(size: int, seed: int) -> None:
    for matrix in (hadamard(size), random_orthogonal(size, seed)):
        assert np.abs(matrix @ matrix.T - np.eye(size)).max() < 1e-12


@pytest.mark.parametrize("family", ["qwen3", "llama3", "qwen2.5", "qwen3-moe", "qwen3.5"])
def test_rotation_without_quantization_stays_inside_the_float32_band(family: str, tmp_path: Path) -> None:
    rotated = rotate(ZOO / family, tmp_path / "rotated")
    assert (logits(rotated) - logits(ZOO / family)).abs().max() < 1e-4


def test_a_rotation_that_is_not_orthogonal_is_outside_it(tmp_path: Path) -> None:
    wrong = random_orthogonal(int(transformers.AutoConfig.from_pretrained(ZOO / "qwen3").hidden_size), 0)
    wrong[0] *= 1.01
    rotated = rotate(ZOO / "qwen3", tmp_path / "rotated", rotation=wrong)
    assert (logits(rotated) - logits(ZOO / "qwen3")).abs().max() > 1e-2


def test_what_cannot_be_rotated_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ContractError, match="gpt2"):
        rotate(tmp_path, tmp_path / "out")
    with pytest.raises(ContractError, match="exists already"):
        rotate(ZOO / "qwen3", tmp_path)
