"""The table of angles that a model rotates by: rebuilt from wrong parameters, or changed, or asked at wrong positions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.rope._function import rotary_class, rotary_embedding
from logitproof.reference import float64 as wide
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, inputs_changed

Parameters = dict[str, Any]
RECOMPUTED = ("dynamic", "longrope")


class WrongParameters(Mutation):
    """A table built from wrong parameters: subclasses say what becomes of the right ones."""

    def applies(self, config: Any) -> bool:
        """Models whose table these parameters change, to finite angles."""
        kind = rotary_class(config)
        wrong = None if kind is None else self._wrong(config)
        if wrong is None:
            return False
        right, wrong_tables = _values(kind(config=copy.deepcopy(config))), _values(kind(config=wrong))
        same = right.keys() == wrong_tables.keys() and all(torch.equal(right[name], wrong_tables[name]) for name in right)
        return not same and all(bool(value.isfinite().all()) for value in wrong_tables.values())

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Rotate by the wrong table."""
        right, decoder = rotary_embedding(model), parts.decoder(model)
        device = next(model.parameters()).device
        with wide.float64() if _is_wide(right) else nullcontext():
            wrong = type(right)(config=self._wrong(right.config)).to(device)
        return attributes_replaced([(decoder, "rotary_emb", wrong)])

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The wrong parameters of one kind of layer, or None where it cannot have the bug."""
        return right

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        """The wrong parameters of every kind of layer; a model with one kind calls it ''."""
        wrong = {kind: self.parameters(dict(parameters), config) for kind, parameters in right.items()}
        if all(parameters is None for parameters in wrong.values()):
            return None
        return {kind: right[kind] if parameters is None else parameters for kind, parameters in wrong.items()}

    def _wrong(self, config: Any) -> Any:
        changed = copy.deepcopy(config)
        wrong = self.all_parameters(by_kind(changed), config)
        if wrong is None:
            return None
        changed.rope_parameters = wrong.get("", wrong)
        return changed


class WrongScaling(WrongParameters):
    """Parameters of one way of scaling: subclasses name it in `scaling`, and say in `scaled` what they are instead."""

    scaling: ClassVar[str]

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The wrong parameters where the model scales that way."""
        return right | self.scaled(right, config) if right.get("rope_type") == self.scaling else None

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        """Those parameters that are others."""
        raise NotImplementedError


class WrongFrequencies(Mutation):
    """A table whose inverse frequencies were computed wrongly: subclasses say what becomes of the right ones."""

    def applies(self, config: Any) -> bool:
        """Models whose frequencies change and that compute them once."""
        kind = rotary_class(config)
        if kind is None or is_recomputed(config):
            return False
        module = kind(config=copy.deepcopy(config))
        right = [module.get_buffer(name) for name in frequency_names(module)]
        return any(not torch.equal(self.frequencies(buffer, config), buffer) for buffer in right)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Rotate by the wrong frequencies."""
        module = rotary_embedding(model)
        names = frequency_names(module)
        wrong = [(module, name, self.frequencies(module.get_buffer(name), module.config)) for name in names]
        return attributes_replaced(wrong)

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """The wrong inverse frequencies [R/2] for the right ones."""
        raise NotImplementedError


class WrongPositions(Mutation):
    """Positions counted wrongly: subclasses say what becomes of the right ones."""

    def applies(self, config: Any) -> bool:
        """Every model that rotates."""
        return rotary_class(config) is not None

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Ask the table for the wrong positions; the mask keeps the right ones."""
        return inputs_changed([rotary_embedding(model)], self._change)

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        """The wrong positions [..., T] for the right ones of one pass."""
        raise NotImplementedError

    def _change(self, _: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if "position_ids" in named:
            return args, named | {"position_ids": self.positions(named["position_ids"])}
        return (args[0], self.positions(args[1]), *args[2:]), named


def by_kind(config: Any) -> dict[str, Parameters]:
    """RoPE's parameters by the kind of layer; a model with one kind calls it ''."""
    right = getattr(config, "rope_parameters", None) or {}
    return {kind: parameters for kind, parameters in right.items() if isinstance(parameters, dict)} or {"": right}


def is_plain(config: Any) -> bool:
    """Whether every table is base^(-2i/R), without scaling and without latent attention's own head sizes."""
    scaled = any(parameters.get("rope_type", "default") != "default" for parameters in by_kind(config).values())
    return not scaled and not getattr(config, "kv_lora_rank", None)


def is_recomputed(config: Any) -> bool:
    """Whether some table depends on the length of the sequence."""
    return any(kind.get("rope_type") in RECOMPUTED for kind in by_kind(config).values())


def frequency_names(module: Any) -> list[str]:
    """The buffers of a rotary embedding that hold inverse frequencies."""
    return [name for name, _ in module.named_buffers() if name.endswith("inv_freq")]


def angles_replaced(module: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> AbstractContextManager[Any]:
    """While open, the rotary embedding takes cos and sin of `change(angles)`, angles [B, T, R/2]."""
    right = module.forward

    def forward(x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None) -> Any:
        name = "inv_freq" if layer_type is None else f"{layer_type}_inv_freq"
        positions = position_ids if position_ids.ndim == 2 else position_ids[0]
        angles = change(positions[..., None].float() * module.get_buffer(name).float())
        # the model's own code multiplies a position by a frequency: position 1 by the angle is the angle
        with attributes_replaced([(module, name, angles)]):
            more = () if layer_type is None else (layer_type,)
            return right(x, torch.ones_like(position_ids), *more)

    return attributes_replaced([(module, "forward", forward)])


def _values(module: Any) -> dict[str, torch.Tensor]:
    scales = {name: torch.tensor(value) for name, value in vars(module).items() if name.endswith("attention_scaling")}
    return dict(module.named_buffers()) | scales


def _is_wide(module: Any) -> bool:
    return all(buffer.dtype is torch.float64 for _, buffer in module.named_buffers())
