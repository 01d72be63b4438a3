"""The error of activations in blocks of 8 bits is that of a kernel, whatever the activations are."""

from __future__ import annotations

import pytest
import torch

from logitproof.reference.noise import BLOCKS, Noise, Spec


def kernels_error(values: torch.Tensor, size: int) -> torch.Tensor:
    """What rounding to the nearest step of each block does."""
    blocks = values.unflatten(-1, (-1, size))
    step = blocks.abs().amax(-1, keepdim=True) / 127
    return (torch.where(step > 0, torch.round(blocks / step) * step, blocks) - blocks).flatten(-2)


@pytest.mark.parametrize("form", list(BLOCKS))
@pytest.mark.parametrize("outlier", [1.0, 30.0, 3000.0])
def test_the_noise_is_as_large_as_rounding_with_one_activation_far_above_the_others(form: str, outlier: float) -> None:
    values = torch.randn(64, 1024, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values[:, ::256] *= outlier
    noise = Noise(Spec(formats={}), torch.nn.Module(), seed=2)
    weight = torch.randn(1024, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    made = (noise._rounded(values, form) - values) @ weight  # type: ignore[arg-type]
    right = kernels_error(values, BLOCKS[form]) @ weight
    assert 0.9 <= float(made.square().mean().sqrt() / right.square().mean().sqrt()) <= 1.1


@pytest.mark.parametrize("form", list(BLOCKS))
def test_zeros_stay_zero_and_repetitions_differ(form: str) -> None:
    noise = Noise(Spec(), torch.nn.Module(), seed=2)
    assert torch.equal(noise._rounded(torch.zeros(2, 512, dtype=torch.float64), form), torch.zeros(2, 512, dtype=torch.float64))  # type: ignore[arg-type]
    values = torch.randn(2, 500, dtype=torch.float64)
    first, second = (noise._rounded(values, form) for _ in range(2))  # type: ignore[arg-type]
    assert first.shape == values.shape and first.isfinite().all() and not torch.equal(first, second)
