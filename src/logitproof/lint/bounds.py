"""Bounds: none loosened in silence, none outside its class without a figure, none that nothing could break."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from logitproof import catalog
from logitproof.bands.calculated import METHOD, calculated_band
from logitproof.contract.contract import ORIGINAL, Gate
from logitproof.contract.inert import BREAKABLE, why_inert
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError, Missing
from logitproof.files.yaml_text import parse_yaml
from logitproof.jobs.plan import matrix_cells, open_models
from logitproof.lint import Finding, Rule
from logitproof.runs.calibrations import folder_of, read_calibration, sides_of, weights_of

CLASSES = ("float32", "16-bit", "8-bit", "6-bit", "4-bit", "fewer")
USUAL: dict[str, tuple[str, tuple[float, ...]]] = {
    "kl_divergence": ("at_most", (1e-4, 1e-2, 3e-2, 0.1, 0.3, 1.0)),
    "kl_reverse": ("at_most", (1e-4, 1e-2, 3e-2, 0.1, 0.3, 1.0)),
    "js_divergence": ("at_most", (1e-4, 5e-3, 1e-2, 3e-2, 0.1, 0.3)),
    "total_variation": ("at_most", (5e-3, 5e-2, 8e-2, 0.15, 0.3, 0.5)),
    "rms_delta_logit": ("at_most", (1e-2, 0.3, 0.4, 0.6, 1.5, 3.0)),
    "max_delta_logit": ("at_most", (5e-2, 1.5, 2.0, 3.0, 8.0, 15.0)),
    "nmse": ("at_most", (1e-4, 1e-2, 2e-2, 5e-2, 0.2, 0.5)),
    "cosine": ("at_least", (0.9999, 0.999, 0.995, 0.99, 0.97, 0.9)),
    "cosine_centred": ("at_least", (0.9999, 0.999, 0.995, 0.99, 0.95, 0.85)),
    "top1": ("at_least", (0.99, 0.95, 0.93, 0.9, 0.75, 0.5)),
    "greedy_match_10": ("at_least", (0.98, 0.8, 0.8, 0.7, 0.5, 0.2)),
    "greedy_match_50": ("at_least", (0.95, 0.6, 0.5, 0.4, 0.2, 0.05)),
}
"""The loosest bound on a mean that a class of precision is usually given, by metric: an order of magnitude above what
was measured on tiny trained models (docs/bands.md) and what parity tools publish as their relaxed profiles."""
VACUOUS = 10.0
"""Factor on the calculated band above which a typed one lets through what it is there to catch."""
FARTHEST: dict[str, float] = {
    "expert_weight_sum": 1e3,
    "kl_divergence": 1e3,
    "kl_reverse": 1e3,
    "nmse": 1e6,
    "rms_delta_logit": 1e3,
    "max_delta_logit": 1e4,
    "regret": 1e3,
}
"""What no engine comes to, by metric whose formula has no upper end."""
EVIDENCE = re.compile(r"\d|https?://|\w/\w|\.(md|json|ya?ml)\b")
"""A basis with a figure, an address or a file."""


class Bounds(Rule):
    """Bounds of gates."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP010": "a bound was loosened since the last commit and no amendment says why",
        "LP011": "a bound is looser than its class of precision usually needs, and its basis holds no evidence",
        "LP012": "a bound that nothing could break",
        "LP013": "a gate that no cell of the matrix measures",
        "LP014": "a typed band is far looser than the calculated one",
        "LP015": "a typed band is tighter than the calculated noise",
        "LP016": "a bound that nothing can meet",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Look at every gate by itself and against the last commit."""
        before = _committed(opened)
        for index, gate in enumerate(opened.contract.gates):
            yield from self._loosened(opened, index, gate, before.get(gate.id))
            yield from self._vacuous(opened, index, gate)
            yield from self._impossible(opened, index, gate)
            yield from self._outside(opened, index, gate)
            yield from self._unmeasured(opened, index, gate)
        if folder_of(opened).is_dir():
            yield from self._beside_calculated(opened)

    def _beside_calculated(self, opened: OpenContract) -> Iterator[Finding]:
        """Typed bands beside those that were calculated, where the contract's weights were calibrated; each band once."""
        weights, reported = weights_of(opened, open_models(opened)), set[tuple[int, str]]()
        for cell in matrix_cells(opened):
            chosen = [index for index, band in enumerate(opened.contract.bands) if band.where.selects(cell.axes)]
            match = opened.contract.bands[chosen[-1]].match if chosen else None
            sides = sides_of(opened, cell)
            calibration = None if isinstance(sides, Missing) else read_calibration(folder_of(opened), sides.key(weights))
            if match is None or calibration is None:
                continue
            calculated = calculated_band(calibration).summary.match
            code = "LP014" if match > VACUOUS * calculated else "LP015" if match * METHOD < calculated else ""
            if code and (chosen[-1], code) not in reported:
                reported.add((chosen[-1], code))
                text = f"match is {match:.3g} logits and {calculated:.3g} is calculated for {cell.id}"
                remedy = "write `bound: calibrated`, or say in the basis what else the band must allow"
                yield self.finding(opened, code, "bands", chosen[-1], text=text, remedy=remedy)

    def _loosened(self, opened: OpenContract, index: int, gate: Gate, before: Mapping[str, Any] | None) -> Iterator[Finding]:
        if before is None:
            return
        key = "at_most" if gate.at_most is not None else "at_least"
        old = before.get(key)
        if not isinstance(old, int | float) or not (gate.bound > old if key == "at_most" else gate.bound < old):
            return
        amended = [
            amendment for amendment in opened.contract.amendments if amendment.kind == "loosened" and gate.id in amendment.gates
        ]
        if len(amended) <= sum(_amends(amendment, gate.id) for amendment in before["amendments"]):
            text = f"the bound of {gate.id!r} was {old:g} in the last commit and is {gate.bound:g}"
            remedy = "add an amendment of kind loosened that names the gate, with its reason"
            yield self.finding(opened, "LP010", "gates", index, key, text=text, remedy=remedy)

    def _vacuous(self, opened: OpenContract, index: int, gate: Gate) -> Iterator[Finding]:
        text = why_inert(gate)
        farthest = FARTHEST.get(gate.metric, math.inf)
        if not text and gate.at_most is not None and gate.bound >= farthest:
            text = f"no {gate.metric} of an engine comes to {farthest:g}"
        if text:
            yield self.finding(opened, "LP012", "gates", index, text=f"{gate.id!r} can never fail: {text}", remedy=BREAKABLE)

    def _impossible(self, opened: OpenContract, index: int, gate: Gate) -> Iterator[Finding]:
        kind = catalog.load("metrics", gate.metric)
        if gate.bound < kind.least if gate.at_most is not None else gate.bound > kind.greatest:
            range_ = f"{gate.metric} lies between {kind.least:g} and {kind.greatest:g}"
            text = f"{range_}, so no engine can meet the bound {gate.bound:g} of {gate.id!r}"
            yield self.finding(opened, "LP016", "gates", index, text=text, remedy="give a bound inside that range")

    def _outside(self, opened: OpenContract, index: int, gate: Gate) -> Iterator[Finding]:
        if gate.metric not in USUAL or gate.statistic not in ("mean", "median") or EVIDENCE.search(gate.basis):
            return
        side, bounds = USUAL[gate.metric]
        classes = {
            _class(opened, cell.candidate, cell.quantization) for cell in matrix_cells(opened) if gate.selects(cell.axes)
        }
        loosest = max(classes, key=CLASSES.index, default=None)
        if loosest is None or getattr(gate, side) is None:
            return
        usual = bounds[CLASSES.index(loosest)]
        if gate.bound > usual if side == "at_most" else gate.bound < usual:
            text = f"{gate.id!r} allows {gate.metric} {side} {gate.bound:g}, {loosest} engines usually need {usual:g}"
            remedy = "say in its basis what was measured, with a figure or a file, or tighten it"
            yield self.finding(opened, "LP011", "gates", index, text=text, remedy=remedy)

    def _unmeasured(self, opened: OpenContract, index: int, gate: Gate) -> Iterator[Finding]:
        """A metric of whole prompts exists in greedy cells only."""
        whole = gate.metric.startswith("greedy_") or gate.metric == "first_divergence"
        modes = {cell.mode for cell in matrix_cells(opened) if gate.selects(cell.axes)}
        if whole and "greedy" not in modes:
            text = f"{gate.id!r} looks at {gate.metric}, which only the mode greedy measures, in {', '.join(sorted(modes))}"
            yield self.finding(opened, "LP013", "gates", index, text=text, remedy="add the mode greedy, or drop the gate")
        if gate.statistic in ("p95", "p99") and _few(opened, gate):
            text = f"{gate.id!r} takes the {gate.statistic} of fewer than 20 positions, which is their largest"
            yield self.finding(opened, "LP013", "gates", index, text=text, remedy="use max, or a longer suite")


def _few(opened: OpenContract, gate: Gate) -> bool:
    """Whether the scope alone leaves fewer than 20 values in all."""
    prompts = sum(len(suite.prompts) for suite in opened.suites)
    return gate.scope.startswith("position") and prompts < 20


def _class(opened: OpenContract, candidate: str, quantization: str) -> str:
    """The class of precision of a candidate on weights of that label."""
    dtype = str(opened.contract.candidates[candidate].options.get("dtype", "float32"))
    label = quantization.upper()
    if label in (ORIGINAL.upper(), "F32", "F16", "BF16"):
        return "float32" if label in (ORIGINAL.upper(), "F32") and dtype in ("float32", "float64") else "16-bit"
    for bits, name in (("8", "8-bit"), ("6", "6-bit"), ("5", "4-bit"), ("4", "4-bit")):
        if bits in label.partition("_")[0] or label.endswith(bits):
            return name
    return "fewer"


def _committed(opened: OpenContract) -> dict[str, dict[str, Any]]:
    """Gates of the contract as it was committed last, by id, each with that version's amendments."""
    argv = ["git", "-C", str(opened.folder), "show", f"HEAD:./{opened.path.name}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        data = parse_yaml(done.stdout, opened.path)[0] if done.returncode == 0 else {}
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired, ContractError):
        return {}  # no git, no commit, or no YAML: there is nothing to compare with
    gates = data.get("gates", []) if isinstance(data, dict) else []
    amendments = data.get("amendments", []) if isinstance(data, dict) else []
    return {gate["id"]: {**gate, "amendments": amendments} for gate in gates if isinstance(gate, dict) and "id" in gate}


def _amends(amendment: Any, gate: str) -> bool:
    return isinstance(amendment, dict) and amendment.get("kind") == "loosened" and gate in amendment.get("gates", [])
