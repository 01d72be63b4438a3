"""The reference in float64, and what it gives under the rounding errors of another arithmetic."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from logitproof.contract.arithmetic import Arithmetic
from logitproof.reference import float64 as wide
from logitproof.reference.angles import disturbed
from logitproof.reference.imitated import formats_of, spec_of
from logitproof.reference.model import EXACT, load
from logitproof.reference.noise import FLOATS, Noise, Spec
from logitproof.reference.threads import fit_threads
from logitproof.weights.model import is_gguf

Routes = list[torch.Tensor]
BY_STEPS = {
    "torch_chunk_gated_delta_rule": "torch_recurrent_gated_delta_rule",
    "chunk_kimi_delta_attention": "recurrent_kimi_delta_attention",
}
"""Functions of transformers' code of a delta rule, in chunks and step by step, that compute the same."""


@dataclass(frozen=True)
class Run:
    """Logits float64 [T, V]; `flipped` [T] marks positions at which other experts were chosen than in float64."""

    logits: np.ndarray
    flipped: np.ndarray


class Predictor:
    """One model in float64, asked again and again: without error, and with that of an arithmetic."""

    def __init__(self, model: Path, config: Path | None = None) -> None:
        self._reference = load(model, config, EXACT)
        self._model = self._reference.model
        fit_threads(self._model)
        modules = self._model.modules()
        self._tables = [module for module in modules if isinstance(getattr(module, "inv_freq", None), torch.Tensor)]
        self._formats = formats_of(model, self._reference.folder, self._model) if is_gguf(model) else {}
        self._routes: dict[tuple[int, ...], Routes] = {}
        self._last: tuple[tuple[int, ...], np.ndarray] | None = None

    def tokenize(self, text: str) -> list[int]:
        """Token ids as the reference feeds them."""
        return self._reference.tokenize(text)

    def exact(self, token_ids: Sequence[int]) -> np.ndarray:
        """Logits float64 [T, V] without error; raises Refusal of a model that is not known in float64.

        Those of the last tokens are kept.
        """
        key = tuple(token_ids)
        if self._last is None or self._last[0] != key:
            logits, routes = self._pass(token_ids, Spec(scale=0.0), 0)
            self._routes[key] = routes
            self._last = key, logits
        return self._last[1]

    def noisy(self, token_ids: Sequence[int], arithmetic: Arithmetic, seed: int, *, free: bool = False) -> Run:
        """One repetition. The experts are those of float64, unless they are `free` to be others."""
        if arithmetic.computed == arithmetic.stored == "float64":
            return Run(self.exact(token_ids), np.zeros(len(token_ids), bool))
        if tuple(token_ids) not in self._routes:
            self.exact(token_ids)
        routes = self._routes[tuple(token_ids)]
        spec = replace(spec_of(arithmetic, self._formats, len(token_ids)), routes=None if free else routes)
        with disturbed(self._tables, arithmetic, seed), self._delta(arithmetic), self._stored(arithmetic):
            logits, chosen = self._pass(token_ids, spec, seed)
        flipped = np.zeros(len(token_ids), bool)
        for exact_experts, noisy_experts in zip(routes, chosen, strict=True):
            if not _is_of_groups(exact_experts, len(token_ids)):
                others = exact_experts.sort(-1)[0] != noisy_experts.sort(-1)[0]
                flipped |= others.reshape(len(token_ids), -1).any(-1).cpu().numpy()
        return Run(logits, flipped)

    @property
    def routes(self) -> bool:
        """Whether the model chooses experts; known after a pass."""
        return any(self._routes.values())

    def routes_of(self, token_ids: Sequence[int]) -> list[np.ndarray]:
        """The experts that float64 chooses, one array [T, k] of sorted numbers a layer."""
        if tuple(token_ids) not in self._routes:
            self.exact(token_ids)
        chosen = [experts for experts in self._routes[tuple(token_ids)] if not _is_of_groups(experts, len(token_ids))]
        return [experts.sort(-1)[0].reshape(len(token_ids), -1).cpu().numpy() for experts in chosen]

    def _pass(self, token_ids: Sequence[int], spec: Spec, seed: int) -> tuple[np.ndarray, Routes]:
        ids = torch.tensor([list(token_ids)], device=self._reference.device)
        with torch.inference_mode(), wide.float64(), Noise(spec, self._model, seed) as noise:
            logits = self._model(input_ids=ids, use_cache=False).logits[0]
        return np.asarray(logits.cpu().numpy(), np.float64), noise.routes

    @contextmanager
    def _stored(self, arithmetic: Arithmetic) -> Iterator[None]:
        """The weights as they lie in the engine's type: rounded to nearest, which is no noise but the same every time."""
        kind = FLOATS.get(arithmetic.stored)
        kept: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        for parameter in self._model.parameters() if kind not in (None, torch.float32) else ():
            rounded = parameter.data.to(kind).to(parameter.dtype)
            if not torch.equal(rounded, parameter.data):
                kept.append((parameter, parameter.data))
                parameter.data = rounded
        try:
            yield
        finally:
            for parameter, data in kept:
                parameter.data = data

    @contextmanager
    def _delta(self, arithmetic: Arithmetic) -> Iterator[None]:
        """The model's gated delta rule, token by token where the engine goes so: chunks err more."""
        code = sys.modules[type(self._model).__module__]
        before = {name: getattr(code, name) for name in BY_STEPS if hasattr(code, name)}
        if arithmetic.delta == "chunks":
            before = {}
        for name in before:
            setattr(code, name, getattr(code, BY_STEPS[name]))
        try:
            yield
        finally:
            for name, function in before.items():
                setattr(code, name, function)


def _is_of_groups(chosen: torch.Tensor, positions: int) -> bool:
    """Whether numbers [T, G, 2] are the best experts of each group, by which groups are chosen and no expert yet."""
    return chosen.ndim == 3 and len(chosen) == positions
