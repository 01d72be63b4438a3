"""Values at the taps of one sequence, while it passes through a model: kept, and replaced where others are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from logitproof.protocol import taps as vocabulary


class Taps:
    """Values at the taps of one sequence. `given` are replaced, [T, ...] in the canonical layout."""

    def __init__(self, patterns: Sequence[str], given: Mapping[str, np.ndarray]) -> None:
        self._patterns, self._given = patterns, given
        self._kept: dict[str, list[np.ndarray]] = {}
        self.layer, self.start, self.length = 0, 0, 0
        self.whole = True

    def at(self, leaf: str, value: torch.Tensor, *, layer: int | None = None) -> torch.Tensor:
        """The value that flows on: the model's own, or the given one in its place. In and out [T, ...] canonical."""
        name = leaf if leaf in vocabulary.BEGIN | vocabulary.END else f"layers.{self.layer if layer is None else layer}.{leaf}"
        if leaf == "attn.scores" and not self.whole:
            return value  # of the keys that a cache has let go there are none, and they are not zero
        end = self.start + self.length
        self._keep(name, leaf, value)
        if name not in self._given:
            return value
        part = self._given[name]
        if leaf not in vocabulary.MATRICES:
            part = part[self.start : end]
        elif not self.whole:
            part = part[:, self.start : end, end - value.shape[-1] : end]
        if part.size != value.numel():
            return value  # of another size it cannot flow on; that it is, the comparison says
        return torch.from_numpy(np.array(part)).reshape(value.shape).to(value)

    def cached(self, leaf: str, heads: torch.Tensor, *, layer: int) -> torch.Tensor:
        """Keys or values [K, S, D] as attention reads them: those of the last S positions until the end of this pass.

        A pass over everything reads what it has just made, which is what it leaves to the steps after it.
        """
        name, slots = f"layers.{layer}.{leaf}", heads.transpose(0, 1)
        begin = self.start + self.length - len(slots)
        if begin < 0:
            return heads  # more slots than positions: a cache that is padded shows no slot of its own
        if vocabulary.wanted(name, self._patterns):
            before = self._kept.get(name, [np.zeros((0, *slots.shape[1:]), np.float32)])[-1]
            now = slots.detach().to(torch.float32).cpu().numpy().copy()
            # what a window has let go stays as it was read last
            self._kept[name] = [np.concatenate([before[:begin], now])]
        if self.whole or name not in self._given:
            return heads  # an engine may attend to what it has just made, and store something else
        part = self._given[name][begin : begin + len(slots)]
        if part.size != slots.numel():
            return heads
        return torch.from_numpy(np.array(part)).reshape(slots.shape).to(heads).transpose(0, 1)

    def choice(self, layer: int) -> torch.Tensor | None:
        """The experts [n, k] that are given for this pass without their weights; None where they are not."""
        index = self._given.get(f"layers.{layer}.moe.index")
        if index is None or f"layers.{layer}.moe.weights" in self._given:
            return None
        return torch.from_numpy(np.array(index[self.start : self.start + self.length])).long()

    def own_choice(self, index: torch.Tensor, layer: int) -> None:
        """Keep what a router would have chosen where it was made to choose what is given."""
        self._keep(f"layers.{layer}.moe.index", "moe.index", index)

    def _keep(self, name: str, leaf: str, value: torch.Tensor) -> None:
        if vocabulary.wanted(name, self._patterns):
            piece = value.detach().to(torch.float32).cpu().numpy().copy()
            if leaf in vocabulary.MATRICES and not self.whole:
                piece = np.pad(piece, ((0, 0), (0, 0), (max(self.start + self.length - piece.shape[-1], 0), 0)))
            self._kept.setdefault(name, []).append(piece)

    def kept(self) -> dict[str, np.ndarray]:
        """Everything that was kept, over all passes."""
        return {name: vocabulary.joined(name, pieces) for name, pieces in self._kept.items()}
