"""The steps of a scan and how its state decays: their bias, their softplus, A."""

from __future__ import annotations

import torch

from logitproof.mutations import Record
from logitproof.mutations.scan._scan import Given, WrongScanInput, steps


class DtBiasMissing(WrongScanInput, id="scan.dt_bias_missing"):
    """The bias of the step sizes (dt_bias) is not added."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="add dt_bias before softplus")

    def given(self, right: Given) -> Given:
        return {"dt_bias": torch.zeros_like(right["dt_bias"])}


class DtBiasTwice(WrongScanInput, id="scan.dt_bias_twice"):
    """The bias of the step sizes (dt_bias) is added twice: before the kernel and in it."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.scan.core",
        remedy="give the kernel the raw steps, or no bias",
        seen_in=("flash-linear-attention #63",),
    )

    def given(self, right: Given) -> Given:
        return {"dt_bias": 2 * right["dt_bias"]}


class SoftplusMissing(WrongScanInput, id="scan.softplus_is_relu"):
    """Step sizes are cut off at zero (ReLU) where softplus belongs."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="apply softplus to the steps and their bias"
    )

    def given(self, right: Given) -> Given:
        biased = right["dt"] + right["dt_bias"].to(right["dt"].dtype)
        return {"dt": biased.relu(), "dt_bias": torch.zeros_like(right["dt_bias"]), "dt_softplus": False}


class SoftplusInaccurate(WrongScanInput, id="scan.softplus_inaccurate"):
    """Softplus returns its argument above 1 in place of above 20, where the two are equal in float32."""

    record = Record(
        shows="wrong where a step is large", first_tap="layers.0.scan.core", remedy="use log1p(exp(x)), and x above 20"
    )

    def given(self, right: Given) -> Given:
        biased = right["dt"] + right["dt_bias"].to(right["dt"].dtype)
        cut = torch.where(biased > 1, biased, torch.nn.functional.softplus(biased))
        return {"dt": cut, "dt_bias": torch.zeros_like(right["dt_bias"]), "dt_softplus": False}


class StepsShared(WrongScanInput, id="scan.steps_shared"):
    """All heads take the step of the first one."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="each head has a step of its own")

    def given(self, right: Given) -> Given:
        heads = 1 if right["x"].ndim == 3 else 2
        first = right["dt"].narrow(heads, 0, 1).expand_as(right["dt"])
        return {"dt": first, "dt_bias": right["dt_bias"][:1].expand_as(right["dt_bias"])}


class StepNotInInput(WrongScanInput, id="scan.step_not_in_input"):
    """The input is not multiplied by its step: only the decay is discretized."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="the state grows by dt * B * x")

    def given(self, right: Given) -> Given:
        size = steps(right)
        undone = right["x"] / (size if size.ndim == right["x"].ndim else size[..., None])
        # the skip of the input lies beside the state and keeps the input itself
        return {"x": undone, "d": torch.zeros_like(right["d"])}


class DecayExponentiatedTwice(WrongScanInput, id="scan.a_exponentiated_twice"):
    """A_log is exponentiated although the loader did it already."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.scan.core",
        remedy="A is -exp(A_log), once",
        seen_in=("1bit-MONSTER #1460",),
    )

    def given(self, right: Given) -> Given:
        return {"a": -torch.exp(-right["a"])}


class DecayOfTheLogarithm(WrongScanInput, id="scan.a_log_not_exponentiated"):
    """A_log is taken for A, negated but not exponentiated."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on", first_tap="layers.0.scan.core", remedy="A is -exp(A_log)"
    )

    def given(self, right: Given) -> Given:
        return {"a": -torch.log(-right["a"]).abs()}


class DecayUniform(WrongScanInput, id="scan.decay_uniform"):
    """All heads decay at the speed of the first one."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.scan.core",
        remedy="each head has an A of its own",
    )

    def given(self, right: Given) -> Given:
        return {"a": right["a"][:1].expand_as(right["a"])}
