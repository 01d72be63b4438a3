"""A model whose tensors are quantized one by one in this process: the float32 reference, and where every tensor lies in it.

Tensors are those of a GGUF file of the model, whether it is one already or a folder that would become one: what is planted is
what `llama-quantize` would make of each, dequantized, and everything is computed in float32. What an engine's kernels add is no
part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitproof.errors import ContractError, ModelError, Refusal
from logitproof.files.gguf import GgufFile
from logitproof.gguf.families import layout_of
from logitproof.gguf.layout import Planned
from logitproof.gguf.tensors import FolderTensors, GgufTensors, PlannedTensors, Tensors
from logitproof.gguf.undo import undone
from logitproof.reference import checkpoint, parts
from logitproof.reference.model import config_folder, load
from logitproof.reference.places import Piece, fill, place_in
from logitproof.reference.shared import Boundaries
from logitproof.reference.threads import fit_threads
from logitproof.sensitivity.types import Tensor, is_quantizable, quantized, tensor_of
from logitproof.weights.config import read_config
from logitproof.weights.model import weights_state

if TYPE_CHECKING:
    import torch

CHARACTERS = 16
"""Of a text for each token that is wanted, mostly more than enough: a long text is not cut into tokens for nothing."""
EXACT = ""
"""In the place of a type: the model's own values."""


class Subject:
    """The reference, fed windows of token ids [B, T], with any of its tensors in any type."""

    def __init__(self, path: Path) -> None:
        self._path, self._state = path, weights_state(path)
        try:
            reference = load(path)
        except Refusal as refusal:
            raise ModelError(refusal.text, where=refusal.field or str(path), remedy=refusal.remedy) from None
        self.reference, self.model = reference, reference.model
        fit_threads(self.model)
        self._held, self._planned = _tensors_of(path, config_folder(path, None))
        self._parameters: dict[str, Any] = dict(self.model.named_parameters())
        self.layers = len(parts.layers(self.model))
        self.tensors = [tensor_of(name, self._held.shape(name)) for name in self._planned]
        self.others = sum(
            4 * int(np.prod(self._held.shape(name), dtype=np.int64)) for name in self._held.names if name not in self._planned
        )
        """bytes of what stays in float32 whatever is quantized"""
        self._now = dict.fromkeys(self._planned, EXACT)
        if not self.tensors:
            raise ModelError("has no tensor that could be quantized", where=str(path), remedy="name another model")

    def plant(self, kinds: dict[str, str]) -> None:
        """Put every tensor into its type, those that are not named into their own values; only changes are computed."""
        for tensor in self.tensors:
            kind = kinds.get(tensor.name, EXACT)
            if kind != self._now[tensor.name]:
                self._now[tensor.name] = "?"  # where this is interrupted, nobody knows what is there
                self._fill(tensor, kind)
                self._now[tensor.name] = kind

    def refuse_changed(self) -> None:
        """Raise ModelError where a file of the model is not as it was: values are read from it until the end."""
        now = weights_state(self._path)
        if changed := sorted(name for name in {*self._state, *now} if self._state.get(name) != now.get(name)):
            text = f"the file {Path(changed[0]).name} was replaced or written to while it was measured"
            raise ModelError(text, where=changed[0], remedy="let nothing write to the weights, and run the command again")

    def first(self, names: Iterable[str]) -> int:
        """The first layer that these tensors touch; as many as there are layers where they come after all of them."""
        by_name = {tensor.name: tensor for tensor in self.tensors}
        return min(self._first(by_name[name]) for name in names)

    def fed(self, text: str, windows: int, tokens: int) -> torch.Tensor:
        """The first windows [B, T] of a text as the model's own tokenizer cuts it; ContractError where it is too short."""
        import torch

        try:
            ids = self.reference.tokenize(text[: windows * tokens * CHARACTERS])
            if len(ids) < windows * tokens:
                ids = self.reference.tokenize(text)
        except Refusal as refusal:
            raise ModelError(refusal.text, where=refusal.field, remedy=refusal.remedy) from None
        if len(ids) < windows * tokens:
            reason = f"the text has {len(ids)} tokens, and {windows} windows of {tokens} are wanted"
            raise ContractError(reason, where="--text", remedy="give a longer text, or fewer --windows or --tokens")
        return torch.tensor(ids[: windows * tokens]).reshape(windows, tokens)

    def boundaries(self) -> Boundaries:
        """What enters each layer of the model as it is now, kept when it is first computed."""
        return Boundaries(self.model)

    def run(self, fed: torch.Tensor, kept: Boundaries, first: int | None = None) -> np.ndarray:
        """Logits float32 [B, T, V]; from layer `first` on, below which they are as `kept`, or a pass that is kept there."""

        import torch

        def passed() -> Any:
            return self.model(fed, use_cache=False).logits

        with torch.inference_mode():
            logits = kept.right(fed, passed) if first is None else kept.logits(fed, first, passed)
        return np.asarray(logits.float().cpu().numpy())

    def _first(self, tensor: Tensor) -> int:
        if tensor.layer is not None:
            return tensor.layer
        return self.layers if tensor.kind == "output" else 0

    def _fill(self, tensor: Tensor, kind: str) -> None:
        import torch

        planned = self._planned[tensor.name]
        rows = self._held.rows(tensor.name)
        values = rows if kind == EXACT else quantized(rows, kind)
        places = {source: place_in(self._parameters, source) for source in planned.sources}
        with torch.no_grad():
            for part in undone(planned, values.reshape(tensor.shape), lambda name: places[name].shape):
                at = None if part.at is None else torch.from_numpy(part.at.astype(np.int64))
                piece = Piece(places[part.name], torch.from_numpy(np.array(part.values, np.float32)), at)
                fill(self._parameters[piece.place.name], piece)


def _tensors_of(path: Path, folder: Path) -> tuple[Tensors, dict[str, Planned]]:
    """All tensors under the names of a GGUF file, and how those that can be quantized are made of the model's."""
    try:
        if path.is_dir():
            layout = layout_of(read_config(folder), str(folder / "config.json"))
            held: Tensors = PlannedTensors(FolderTensors(folder), layout)
            planned: Iterable[Planned] = layout.tensors
        else:
            planned = checkpoint.opened_gguf(path, checkpoint.read_config(folder)).present()
            held = GgufTensors(GgufFile(path))
        names = set(held.names)
        chosen = {tensor.name: tensor for tensor in planned if tensor.name in names and tensor.sources}
    except Refusal as refusal:
        raise ModelError(refusal.text, where=refusal.field or str(path), remedy=refusal.remedy) from None
    return held, {name: tensor for name, tensor in chosen.items() if is_quantizable(name, held.shape(name))}
