"""The reference in this process, with known bugs planted into it for one pass and taken out again.

torch is imported by the first model that is opened, never before: names of bugs and their grids are light.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitproof import catalog
from logitproof.errors import ContractError, EnvironmentFailed, ModelError, Refusal
from logitproof.reference.cache import through_cache

if TYPE_CHECKING:
    from logitproof.contract.arithmetic import Arithmetic

PREFILL_NEEDS = ("", "outliers", "small activations", "more than 256 positions", "adapter")
DECODE_NEEDS = (*PREFILL_NEEDS, "decode")
ONLY_LAYER = "only_layer"
"""An option that every bug takes here: the bug is in this decoder layer alone, all others are right."""
Bugs = Sequence[tuple[str, Mapping[str, Any]]]
"""Names of mutations with their options."""


class Planted:
    """A loaded model on some sequences. `passes` counts forward passes; logits come as float64 on the host."""

    def __init__(self, model: Any, sequences: Sequence[Sequence[int]]) -> None:
        self.model, self.passes = model, 0
        self.sequences = [list(ids) for ids in sequences]
        self._watch: Any = None
        self._boundaries: Any = None
        self._rounding = False
        self._origin: tuple[Path, Path] | None = None

    @classmethod
    def opened(
        cls,
        folder: Path,
        sequences: Sequence[Sequence[int]],
        weights: Path | None = None,
        *,
        device: str = "cpu",
        adapter: Path | None = None,
    ) -> Planted:
        """The model of an HF folder in float32, eager; with the dequantized weights of a GGUF file where one is named, and with
        the PEFT adapter of a folder beside its matrices.

        Raises ContractError of what is no folder, ModelError of one that cannot be loaded, EnvironmentFailed without torch.
        """
        try:
            from logitproof.reference.model import Loading, load
            from logitproof.reference.threads import fit_threads
        except ImportError as error:
            raise EnvironmentFailed(
                f"bugs are planted in transformers: {error}", remedy="pip install 'logitproof[transformers]'"
            ) from None
        if not folder.is_dir():
            raise ContractError("is no Hugging Face folder", where=str(folder), remedy="name the original model")
        try:
            model = load(weights or folder, folder, Loading(device=device, adapter=adapter)).model
        except Refusal as refusal:
            raise ModelError(refusal.text, where=refusal.field or str(folder), remedy=refusal.remedy) from None
        fit_threads(model)
        planted = cls(model, sequences)
        planted._origin = (weights, folder) if weights else None
        return planted

    @property
    def config(self) -> Any:
        """The model's own."""
        return self.model.config

    @property
    def layers(self) -> int:
        """How many decoder layers there are."""
        from logitproof.reference import parts

        return len(parts.layers(self.model))

    @property
    def vocabulary(self) -> int:
        """How many logits a row has."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @functools.cached_property
    def weights(self) -> int:
        """How many numbers the parameters hold, tied ones once."""
        return sum(int(parameter.numel()) for parameter in self.model.parameters())

    @functools.cached_property
    def right(self) -> list[np.ndarray]:
        """Logits float64 [T, V] of every sequence without a bug, in one pass each."""
        return self.logits()

    @functools.cached_property
    def _gives_stream(self) -> bool:
        from logitproof.reference.shared import gives_stream

        return gives_stream(self.model)

    def head(self) -> np.ndarray | None:
        """The head's matrix float32 [V, E], where logits are its product with a hidden state and nothing more."""
        weight = self.model.get_output_embeddings()
        if getattr(weight, "bias", None) is not None or getattr(self.config, "final_logit_softcapping", None):
            return None
        return np.asarray(weight.weight.detach().float().cpu().numpy())

    def logits(self, bugs: Bugs = (), *, cached: bool = False, beginning: int | None = None) -> list[np.ndarray]:
        """Logits float64 [T, V] of every sequence, or of so many positions of the first, with these bugs.

        In one pass, or token by token through the cache where `cached`.
        """
        sequences = self.sequences if beginning is None else [self.sequences[0][:beginning]]
        with self._with(bugs):
            return [self._stepped(ids) if cached else self._passed(ids, bugs) for ids in sequences]

    def replay(
        self, names: Sequence[str], given: Mapping[str, np.ndarray], bugs: Bugs = (), *, size: int = 0
    ) -> dict[str, np.ndarray]:
        """The named taps of the first sequence, with these bugs, where `given` taps flow on in place of the model's own.

        In one pass, or in pieces of `size` positions through the cache. A layer that none of the names lies in is not computed
        where what leaves it is given.
        """
        from logitproof.reference.patches import attributes_replaced
        from logitproof.reference.shared import fewest, idling
        from logitproof.reference.tap_values import Taps
        from logitproof.reference.taps import Watch, pass_through

        if self._watch is None:
            # before any bug is planted, so that a bug of attention stands around it and is seen
            self._watch = Watch(self.model)
        fed, flow = self._fed(self.sequences[0]), Taps(names, given)
        flow.whole = not size
        self.passes += 1
        skipped = [] if size else idling(self.model, names, given)
        idle = attributes_replaced(skipped if (skipped or "*" in names) and self._gives_stream else [])
        with self._with(bugs), idle:
            sizes = [part.shape[1] for part in fed.split(size or fed.shape[1], dim=1)]
            fewer = {} if size or "logits" in names else fewest(self.model)
            pass_through(self.model, self._watch, flow, fed, sizes, **fewer)
        return flow.kept()

    def response(self, beginning: int, sums: int) -> Any:
        """How weighted sums of the logits of the first so many positions answer to disturbances of each layer."""
        from logitproof.reference.response import Response

        response = Response(self.model, self.sequences[0][:beginning], sums)
        self.passes += 1 + response.sums
        return response

    def foretold(self, response: Any, bugs: Mapping[int, tuple[str, Mapping[str, Any]]]) -> np.ndarray:
        """The weighted sums [L, S] that the bug of each layer changes from there alone, in one pass for all of them."""

        def planting(layer: int) -> Any:
            if layer not in bugs:
                return None
            name, options = bugs[layer]
            return catalog.load("mutations", name)(**options).applied_to(self.model)

        self.passes += 1
        return np.asarray(response.foretold(planting))

    def foretold_of(self, response: Any, name: str, among: Sequence[int] | None = None) -> np.ndarray:
        """The same of a bug that is in every layer, and would be in each of them alone, or in each of those `among` them."""
        self.passes += 1
        return np.asarray(response.foretold_of(catalog.load("mutations", name)().applied_to(self.model), among))

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """While open, matrices are multiplied in bfloat16, on whatever device the model lies."""
        import torch

        self._rounding = True
        try:
            with torch.autocast(torch.device(self.model.device).type, dtype=torch.bfloat16, cache_enabled=False):
                yield
        finally:
            self._rounding = False

    @contextmanager
    def imitating(self, arithmetic: Arithmetic, seed: int = 0) -> Iterator[None]:
        """While open, every operation errs as it does in an arithmetic that takes activations in the blocks of the file.

        Raises Refusal of weights that are of no GGUF file, of a quantization or of an operation whose noise is not known.
        """
        from logitproof.reference.imitated import formats_of, spec_of
        from logitproof.reference.noise import Noise

        if self._origin is None:
            raise Refusal("the weights are of no GGUF file: it is not known in what blocks activations are taken")
        formats = formats_of(*self._origin, self.model)
        self._rounding = True
        try:
            with Noise(spec_of(arithmetic, formats, len(self.sequences[0])), self.model, seed):
                yield
        finally:
            self._rounding = False

    def close(self) -> None:
        """Leave the model as it was."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    @contextmanager
    def _with(self, bugs: Bugs) -> Iterator[None]:
        with ExitStack() as stack:
            for name, options in bugs:
                bug = catalog.load("mutations", name)(**{key: options[key] for key in options if key != ONLY_LAYER})
                place = options.get(ONLY_LAYER)
                stack.enter_context(bug.applied_to(self.model) if place is None else _in_layer(bug, self.model, place))
            yield

    def _passed(self, ids: Sequence[int], bugs: Bugs) -> np.ndarray:
        """One pass; layers below the first that a bug touches are not computed again."""
        import torch

        from logitproof.reference.shared import Boundaries, first_layer

        self.passes += 1
        fed = self._fed(ids)
        if self._boundaries is None:
            self._boundaries = Boundaries(self.model)

        def run() -> Any:
            return self.model(fed, use_cache=False).logits

        with torch.inference_mode():
            if self._rounding:
                return _host(run()[0])
            if not bugs:
                return _host(self._boundaries.right(fed, run)[0])
            return _host(self._boundaries.logits(fed, first_layer(bugs, self.layers, ONLY_LAYER), run)[0])

    def _stepped(self, ids: Sequence[int]) -> np.ndarray:
        """Token by token through the cache."""
        import torch

        self.passes += 1
        cache, rows = None, []
        with torch.inference_mode():
            for part in self._fed(ids).split(1, dim=1):
                out, cache = through_cache(self.model, part, cache)
                rows.append(_host(out.logits[0]))
        return np.concatenate(rows)

    def _fed(self, ids: Sequence[int]) -> Any:
        import torch

        return torch.tensor([list(ids)], device=self.model.device)


@contextmanager
def _in_layer(bug: Any, model: Any, place: int) -> Iterator[None]:
    """Plant the bug when the decoder layer begins, and take it out when it ends: all other layers run without it."""
    from logitproof.reference import parts

    layer, planted = parts.layers(model)[place], ExitStack()

    def begin(*_: Any) -> None:
        planted.enter_context(bug.applied_to(model))

    def end(*_: Any) -> None:
        planted.close()

    # of two bugs in one layer the first to begin is the last to end, or one would put back what the other had planted
    hooks = [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end, always_call=True, prepend=True)]
    try:
        yield
    finally:
        planted.close()
        for hook in hooks:
            hook.remove()


def showing(needs: Sequence[str], names: Sequence[str] | None = None) -> Iterator[tuple[str, Any]]:
    """Mutations, or those of these `names`, that logits of this kind can show; none that is proven to show nothing."""
    for name in catalog.entries("mutations") if names is None else names:
        kind = catalog.load("mutations", name)
        if not kind.equivalent and kind.needs in needs:
            yield name, kind


def grid(kind: Any) -> Iterator[dict[str, Any]]:
    """The default, then every other value of the grid."""
    yield {}
    for name, values in kind.grid.items():
        for value in values:
            if value != getattr(kind, name):
                yield {name: value}


def _host(rows: Any) -> np.ndarray:
    return np.asarray(rows.float().cpu().numpy(), np.float64)
