"""Values rounded as a narrower type would round them, without leaving the type that they are in."""

from __future__ import annotations

import torch


def rounded(values: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """`values` with `bits` significant bits, ties to even: 8 is bfloat16, 11 is float16 without its narrow range."""
    mantissa, exponent = torch.frexp(values if values.dtype is torch.float64 else values.float())
    return torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent).to(values.dtype)
