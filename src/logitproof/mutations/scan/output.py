"""What becomes of a scan's output: the gate, the norm by groups, and what stands beside the scan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import functional

from logitproof.mutations import Record
from logitproof.mutations._tensors import Change, WrongTensors, ZeroTensors
from logitproof.mutations.scan._scan import WrongScanNorm, divided
from logitproof.reference import parts


class GateMissing(WrongScanNorm, id="scan.gate_missing"):
    """The output is normed and not gated."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.norm", remedy="multiply by SiLU of the gate before the norm"
    )

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return divided(norm, x, norm.group_size)


class GateSigmoid(WrongScanNorm, id="scan.gate_sigmoid_for_silu"):
    """The gate passes a sigmoid in place of SiLU."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.norm", remedy="the gate's activation is SiLU")

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return divided(norm, x * gate.sigmoid(), norm.group_size)


class NormBeforeGate(WrongScanNorm, id="scan.norm_before_gate"):
    """The output is normed first and gated afterwards."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.scan.norm",
        remedy="gate first, then norm (norm_before_gate = false)",
        seen_in=("flash-linear-attention #63",),
    )

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return divided(norm, x, norm.group_size) * functional.silu(gate)


class NormMissing(WrongScanNorm, id="scan.norm_missing"):
    """The gated output is not normed."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.norm", remedy="norm the gated output")

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return x * functional.silu(gate) * norm.weight


class NormOverAllGroups(WrongScanNorm, id="scan.norm_over_all_groups"):
    """The norm's mean is taken over all channels and not over those of each group."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.scan.norm",
        remedy="norm the channels of each group by themselves",
        seen_in=("mamba #910", "vmlx-swift #188", "transformers #35943"),
    )

    def applies(self, config: Any) -> bool:
        """Models with more than one group."""
        return any(norm.group_size < norm.weight.numel() for norm in self._norms(parts.skeleton(config)))

    def gated(self, norm: Any, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return divided(norm, x * functional.silu(gate), x.shape[-1])


class GateAndInputSwapped(WrongTensors, id="scan.gate_and_input_swapped"):
    """The projection's gate and input are mistaken for each other."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.scan.conv",
        remedy="the projection holds z, x, B, C, dt in this order",
    )

    def changes(self, model: Any) -> Iterable[Change]:
        for scan in parts.scans(model):
            inner, right = scan.out_proj.in_features, scan.in_proj.weight
            yield right, torch.cat([right[inner : 2 * inner], right[:inner], right[2 * inner :]])


class BranchMissing(ZeroTensors, id="scan.branch_missing"):
    """Where scan and attention stand side by side, the scan's part is lost."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.residual", remedy="add scan and attention to the residual stream"
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        layers = [layer for layer in parts.layers(model) if {"mamba", "self_attn"} <= set(layer._modules)]
        return [layer.mamba.out_proj.weight for layer in layers]
