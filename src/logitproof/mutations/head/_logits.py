"""Changes the logits that a model reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference.patches import inputs_changed, outputs_changed


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


class WrongAfterTokens(Mutation):
    """A bug in the logits of tokens that have come before: subclasses say in `penalized` what becomes of them."""

    first_tap = "logits"

    def applies(self, config: Any) -> bool:
        """Every model reports logits."""
        return True

    @contextmanager
    def applied_to(self, model: Any) -> Iterator[None]:
        """Change every row by the tokens up to its position, those of earlier passes through the cache included."""
        seen: list[torch.Tensor] = []

        def enter(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            ids = named.get("input_ids", args[0] if args else None)
            cache = named.get("past_key_values", named.get("cache_params"))
            if cache is None:
                seen.clear()
            seen.append(ids)
            return args, named

        def leave(module: Any, inputs: tuple[Any, ...], out: Any) -> Any:
            ids, logits = torch.cat(seen, dim=1), out.logits.clone()
            count = logits.shape[1]
            for batch, row in ((batch, row) for batch in range(len(ids)) for row in range(count)):
                tokens, counts = ids[batch, : ids.shape[1] - count + row + 1].unique(return_counts=True)
                logits[batch, row, tokens] = self.penalized(logits[batch, row, tokens], counts)
            out.logits = logits
            return out

        with ExitStack() as stack:
            stack.enter_context(inputs_changed([model], enter))
            stack.enter_context(outputs_changed([model], leave))
            yield

    def penalized(self, logits: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """The wrong logits [N] of the tokens that came so often [N]."""
        raise NotImplementedError
