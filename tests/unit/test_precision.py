"""Rounding by whole numbers is rounding by mantissa and exponent, bit for bit."""

from __future__ import annotations

import pytest
import torch

from logitproof.mutations._precision import rounded


@pytest.mark.parametrize("bits", [2, 4, 7, 8, 11, 23])
def test_float32_is_rounded_as_its_mantissa_says(bits: int) -> None:
    numbers = torch.randn(20_000, generator=torch.Generator().manual_seed(bits)) * 10.0 ** torch.linspace(-30, 30, 20_000)
    ties = (torch.arange(1, 4001).float() + 0.5) * 2.0**-3
    values = torch.cat([numbers, ties, -ties, torch.tensor([0.0, -0.0, 1.0, torch.inf, -torch.inf])])
    mantissa, exponent = torch.frexp(values)
    right = torch.where(values.isfinite(), torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent), values)
    assert torch.equal(rounded(values, bits), right)
    assert torch.equal(rounded(values.double(), bits).float()[:-2], right[:-2])
    assert rounded(torch.tensor([torch.nan]), bits).isnan().all()


def test_the_types_are_those_that_torch_rounds_to() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    values = values[values.abs() > 2.0**-14]
    assert torch.equal(rounded(values, 8), values.bfloat16().float())
    assert torch.equal(rounded(values, 11), values.half().float())
