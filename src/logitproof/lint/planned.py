"""What planning would refuse: weights that are no model, labels that no model has, unknown codes of preflight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof import catalog
from logitproof.contract.opened import OpenContract
from logitproof.errors import did_you_mean
from logitproof.jobs.plan import matrix_cells
from logitproof.jobs.sides import label_read, path_of
from logitproof.lint import Finding, Rule
from logitproof.weights.model import is_gguf


class Planned(Rule):
    """Cells and their files as the plan would read them, but for reading the weights."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP009": "leave for a finding of preflight that has no such code",
        "LP073": "weights that are no model, or that a model does not have under this label",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Look at what every cell reads on both sides, at the witness and at the codes that preflight skips."""
        wanted: dict[tuple[str, str], str] = {}
        for cell in matrix_cells(opened):
            wanted.setdefault((cell.model, cell.quantization), f"the cell {cell.id}")
            label = label_read(opened.contract, cell.quantization, cell.against)
            wanted.setdefault((cell.model, label), f"the reference of {cell.id}")
            if opened.contract.witness is not None:
                wanted.setdefault((cell.model, opened.contract.witness.weights), "the witness")
        for (model, label), reader in wanted.items():
            yield from self._of(opened, model, label, reader)
        if opened.contract.preflight is not None:
            known = sorted({code for name in catalog.entries("preflight") for code in catalog.load("preflight", name).codes})
            for index, code in enumerate(opened.contract.preflight.skip):
                if code not in known:
                    text = f"preflight has no code {code!r}{did_you_mean(code, known)}"
                    remedy = "the codes stand in docs/contract.md"
                    yield self.finding(opened, "LP009", "preflight", "skip", index, text=text, remedy=remedy)

    def _of(self, opened: OpenContract, model: str, label: str, reader: str) -> Iterator[Finding]:
        if label not in opened.contract.models[model]:
            text = f"{reader} reads {label!r} of {model}, which is not listed"
            remedy = f"add `{label}: PATH` to the model, or leave it out of the matrix"
            yield self.finding(opened, "LP073", "models", model, text=text, remedy=remedy)
            return
        path = path_of(opened, model, label)
        if path.is_dir() and not (path / "config.json").is_file():
            fault = "a folder without config.json"
        elif path.is_file() and path.suffix == ".gguf" and not is_gguf(path):
            fault = "called .gguf and does not begin as a GGUF file does"
        elif path.is_file() and path.suffix == ".safetensors":
            fault = "a single weights file without its config"
        else:
            return  # what is not there at all is another rule's
        text = f"models.{model}.{label}: {path} is {fault}"
        remedy = "name an HF model folder or a GGUF file"
        yield self.finding(opened, "LP073", "models", model, label, text=text, remedy=remedy)
