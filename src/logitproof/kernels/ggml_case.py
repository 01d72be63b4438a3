"""One kernel of ggml beside float64, and beside the error that the noise of `calibrate` has there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from logitproof.contract.arithmetic import GGML_LANES
from logitproof.kernels.ggml_graph import Ggml
from logitproof.kernels.kernel import Kernel
from logitproof.kernels.torch import SEEDS, kernel_of
from logitproof.reference import float64 as wide
from logitproof.reference.noise import Noise, Spec


def undisturbed(seed: int) -> AbstractContextManager[None]:
    """Nothing but the operations themselves errs."""
    return nullcontext()


@dataclass(frozen=True)
class Case:
    """`reference` is torch's code on inputs that ggml has too, `computed` ggml's on them, in one shape.

    `module` holds the parameters that `spec` has formats for; `disturbed` is what a draw errs in beside operations.
    """

    kind: str
    name: str
    precision: str
    shape: tuple[int, ...]
    given: torch.Tensor
    reference: Callable[[], torch.Tensor]
    computed: Callable[[Ggml], np.ndarray]
    spec: Spec = field(default_factory=lambda: Spec(lanes=GGML_LANES))
    module: torch.nn.Module = field(default_factory=torch.nn.Module)
    disturbed: Callable[[int], AbstractContextManager[None]] = undisturbed

    def measured(self, ggml: Ggml) -> Kernel:
        """What ggml has made of it, in one thread."""
        with torch.inference_mode(), wide.float64():
            exact = self.reference()
            noisy = torch.stack([self._noisy(seed) for seed in range(SEEDS)])
        result = torch.from_numpy(self.computed(ggml)).reshape(exact.shape)
        return kernel_of("ggml", self.kind, self.name, self.precision, self.shape, self.given, exact, result, noisy)

    def _noisy(self, seed: int) -> torch.Tensor:
        with self.disturbed(seed), Noise(self.spec, self.module, seed):
            return self.reference()


def narrowed(value: torch.Tensor) -> torch.Tensor:
    """`value` rounded to float32, as float64, so that both sides are given the same numbers."""
    return torch.from_numpy(array(value).astype(np.float64))


def array(value: torch.Tensor, *shape: int) -> np.ndarray:
    """float32, in this shape."""
    # not by torch, whose float32 is float64 while the reference runs
    numbers = np.ascontiguousarray(value.detach().numpy().astype(np.float32))
    return numbers.reshape(shape) if shape else numbers
