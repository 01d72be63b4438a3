"""Gates of what a mixture of experts chooses: on models that have routers, of engines that show what these choose."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from logitproof import catalog
from logitproof.contract.contract import ORIGINAL, EngineUse, Gate, is_of_routing
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError
from logitproof.files.gguf import GgufFile
from logitproof.files.untrusted import read_object
from logitproof.jobs.cell import Cell
from logitproof.jobs.plan import matrix_cells
from logitproof.lint import Finding, Rule
from logitproof.weights.hub import find
from logitproof.weights.model import is_gguf

COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
OWN_SUM = ("llama4", "llama4_text")
"""Families whose weights are sigmoids that nothing normalizes, whatever their config says."""
SUMS = "expert_weight_sum"
OWN = Path(__file__).parents[1] / "engines"
PROTOCOL = ("command",)
"""Engines that are programs of somebody else's: what they offer stands in their `hello` alone."""


class RoutingGates(Rule):
    """Gates whose metric is measured of what routers choose."""

    codes: ClassVar[dict[str, str]] = {
        "LP017": "a gate of experts where no router, or no tap of one, can be seen",
        "LP018": "a gate on the sum of weights of experts that have another sum by design",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Look at the models and the engines of the cells that such a gate selects."""
        for index, gate in enumerate(opened.contract.gates):
            if is_of_routing(gate.metric):
                cells = [cell for cell in matrix_cells(opened) if gate.selects(cell.axes)]
                yield from self._modes(opened, index, gate, cells)
                yield from self._models(opened, index, gate, cells)
                yield from self._engines(opened, index, gate, cells)

    def _modes(self, opened: OpenContract, index: int, gate: Gate, cells: list[Cell]) -> Iterator[Finding]:
        if {cell.mode for cell in cells} == {"greedy"}:
            text = f"{gate.id!r} looks at what routers choose, which free-running cells do not show"
            yield self.finding(opened, "LP017", "gates", index, text=text, remedy="select the mode prefill or decode")

    def _models(self, opened: OpenContract, index: int, gate: Gate, cells: list[Cell]) -> Iterator[Finding]:
        for name in sorted({cell.model for cell in cells}):
            config = _config(find(opened.contract.models[name].get(ORIGINAL, ""), opened.folder))
            if config is None:
                continue  # what is not on this machine is told when the contract runs
            if not any(config.get(key) for key in COUNTS):
                text = f"{name} has no experts in its config, so {gate.id!r} can never be measured on it"
                remedy = "restrict the gate by `where: {model: ...}`, or drop it"
                yield self.finding(opened, "LP017", "gates", index, text=text, remedy=remedy)
            elif gate.metric == SUMS and (why := _other_sum(config)):
                text = f"the weights of the experts of {name} do not sum to 1 by design ({why})"
                remedy = "restrict the gate by `where: {model: ...}`, or gate expert_set alone"
                yield self.finding(opened, "LP018", "gates", index, text=text, remedy=remedy)

    def _engines(self, opened: OpenContract, index: int, gate: Gate, cells: list[Cell]) -> Iterator[Finding]:
        contract = opened.contract
        uses: dict[str, EngineUse] = {}
        for cell in cells:
            uses[f"the reference {cell.against}".strip()] = contract.reference_of(cell.against)
            if not contract.may_stay_unmeasured(cell.id):
                uses[f"the candidate {cell.candidate}"] = contract.candidates[cell.candidate]
        for name, use in uses.items():
            if _shows_nothing(use.engine):
                text = f"{name} is {use.engine}, which offers no taps of its router, so {gate.id!r} is not measured there"
                remedy = "restrict the gate by `where: {candidate: ...}`, take an engine with taps, or list the cell in "
                yield self.finding(opened, "LP017", "gates", index, text=text, remedy=f"{remedy}`may_be_unmeasured`")


def _config(path: Path) -> dict[str, Any] | None:
    """The settings of a model folder, or of a GGUF file under the names of such a folder; None where they cannot be read."""
    try:
        if path.is_file() and is_gguf(path):
            file = GgufFile(path)
            return {COUNTS[0]: file.value(f"{file.value('general.architecture', '')}.expert_count", 0)}
        config = read_object(path / "config.json")
    except ContractError:
        return None
    inner = config.get("text_config", config)
    return inner if isinstance(inner, dict) else None


def _other_sum(config: dict[str, Any]) -> str:
    """Why the weights of the chosen experts have another sum than 1, or nothing."""
    if config.get("norm_topk_prob") is False:
        return "norm_topk_prob is false"
    factor = config.get("routed_scaling_factor")
    if isinstance(factor, int | float) and factor != 1:
        return f"routed_scaling_factor is {factor:g}"
    return f"{config['model_type']} takes sigmoids" if config.get("model_type") in OWN_SUM else ""


def _shows_nothing(engine: str) -> bool:
    """Whether an engine of this package has no taps; its source is read, and a program of somebody else's is not judged."""
    entry = catalog.entries("engines").get(engine)
    if entry is None or engine in PROTOCOL or OWN not in Path(entry.file).parents:
        return False
    return not _defines_taps(Path(entry.file))


def _defines_taps(path: Path) -> bool:
    """Whether a class of an engine's file has taps, of its own or of a class of another file beside it."""
    tree = ast.parse(path.read_text("utf-8"))
    if any(isinstance(node, ast.FunctionDef) and node.name == "taps" for node in ast.walk(tree)):
        return True
    bases = {ast.unparse(base) for node in tree.body if isinstance(node, ast.ClassDef) for base in node.bases}
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and bases & {name.name for name in node.names}]
    beside = [path.with_name(f"{(node.module or '').rpartition('.')[2]}.py") for node in imported]
    return any(file.is_file() and file != path and _defines_taps(file) for file in beside)
