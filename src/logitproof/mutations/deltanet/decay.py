"""How fast the state decays: g = -exp(A_log) · softplus(a + dt_bias)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from logitproof.mutations import Record
from logitproof.mutations._tensors import SpoiltTensors
from logitproof.mutations.deltanet._rule import WrongDeltaNet, WrongRule
from logitproof.reference import parts


class _WrongTensors(WrongDeltaNet, SpoiltTensors):
    """One tensor of every layer."""

    tensor: ClassVar[str]

    def affected(self, model: Any) -> list[torch.Tensor]:
        """It, in every layer."""
        return [getattr(net, self.tensor) for net in parts.delta_nets(model)]


class DecayMissing(WrongRule, id="deltanet.decay_missing"):
    """The decay of the state is left out."""

    record = Record(
        shows="position 0 exact, growing with position",
        first_tap="layers.0.linear_attn.core",
        remedy="multiply the state by exp(g) before each update",
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        return {"g": torch.zeros_like(right["g"])}


class DecayLate(WrongRule, id="deltanet.decay_late"):
    """The decay is taken from the previous token."""

    record = Record(
        shows="position 0 exact",
        first_tap="layers.0.linear_attn.core",
        remedy="decay the state with the gate of the token that is added",
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        g = right["g"]
        return {"g": torch.cat((g[:, :1], g[:, :-1]), dim=1)}


class DecayUniform(WrongRule, id="deltanet.decay_uniform"):
    """All heads use the first head's decay."""

    record = Record(
        shows="the first value head exact, position 0 exact",
        first_tap="layers.0.linear_attn.core",
        remedy="keep one decay for each value head",
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        return {"g": right["g"][..., :1].expand_as(right["g"]).contiguous()}


class SoftplusIsRelu(WrongRule, id="deltanet.softplus_is_relu"):
    """The softplus of the time step is replaced by ReLU."""

    record = Record(
        shows="position 0 exact, decays wrong where the step is near zero",
        first_tap="layers.0.linear_attn.core",
        remedy="use log(1 + exp(x))",
        seen_in=("tt-metal #9910",),
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        rate = layer.A_log.float().exp()
        step = torch.special.expm1(-right["g"] / rate).log()
        return {"g": -rate * step.clamp(min=0)}


class ALogNotExponentiated(WrongRule, id="deltanet.a_log_not_exponentiated"):
    """A_log is not exponentiated: it is used as the decay rate itself."""

    record = Record(
        shows="position 0 exact, decays of all heads wrong",
        first_tap="layers.0.linear_attn.core",
        remedy="use -exp(A_log)",
        seen_in=("imp #1284",),
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        return {"g": right["g"] * (layer.A_log / layer.A_log.exp()).to(right["g"])}


class ALogExponentiatedTwice(_WrongTensors, id="deltanet.a_log_exponentiated_twice"):
    """A_log, already exponentiated by the converter, is exponentiated again."""

    record = Record(
        shows="position 0 exact, the state forgets almost at once",
        first_tap="layers.0.linear_attn.core",
        remedy="exponentiate A_log once, in the converter or in the engine",
        seen_in=("1bit-MONSTER #1460",),
    )
    tensor = "A_log"

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return right.exp()


class DtBiasMissing(_WrongTensors, id="deltanet.dt_bias_missing"):
    """The bias of the time step (dt_bias) is left out."""

    record = Record(
        shows="position 0 exact, all decays wrong",
        first_tap="layers.0.linear_attn.core",
        remedy="add dt_bias before the softplus",
    )
    tensor = "dt_bias"

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(right)


class DtBiasTwice(_WrongTensors, id="deltanet.dt_bias_twice"):
    """The bias of the time step (dt_bias) is added twice, by two functions."""

    record = Record(
        shows="position 0 exact, all decays wrong",
        first_tap="layers.0.linear_attn.core",
        remedy="add dt_bias once",
        seen_in=("mlx-lm #1153",),
    )
    tensor = "dt_bias"

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return 2 * right
