"""How many threads torch gets for a model that is run again and again in this process."""

from __future__ import annotations

import torch

SMALL = 1_000_000_000
"""Parameters below which one thread is faster: its operations are shorter than the threads' waiting for each other."""


def fit_threads(model: torch.nn.Module) -> None:
    """One thread for a small model. On a machine that does other things too, threads that wait take its cores."""
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)
