"""Changes the logits that a model reports."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference.patches import outputs_changed


class WrongLogits(Mutation):
    """A bug in what is made of the head's output: subclasses say in `reported` what is reported instead."""

    first_tap = "logits"

    def applies(self, config: Any) -> bool:
        """Every model reports logits."""
        return True

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change the logits of the model, soft-cap and scale included."""

        def change(module: Any, inputs: tuple[Any, ...], out: Any) -> Any:
            out.logits = self.reported(model, out.logits)
            return out

        return outputs_changed([model], change)

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """What becomes of the logits [B, T, V]."""
        raise NotImplementedError
