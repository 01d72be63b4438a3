"""What a contract lists is compared: weights that no cell reads are told, since a PASS looks as if they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof.contract.opened import OpenContract
from logitproof.jobs.unread import unread_references, unread_weights
from logitproof.lint import Finding, Rule


class Listed(Rule):
    """Weights under `models`, and engines under `references`."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP063": "weights that are listed and that no cell reads",
        "LP065": "a reference that is listed and that no gate compares with",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Compare the labels of every model with those of its cells."""
        for name, label in unread_weights(opened):
            text = f"{opened.contract.models[name][label]} is listed as {label} of {name}, and no cell reads it"
            axis = "model" if opened.contract.matrix.model and name not in opened.contract.matrix.model else "quantization"
            remedy = f"add {name if axis == 'model' else label} to `matrix: {axis}`, or take the file out"
            yield self.finding(opened, "LP063", "models", name, label, text=text, remedy=remedy)
        for name in unread_references(opened):
            text = f"{name} is listed as a reference, and no gate compares anything with it"
            remedy = f"give a gate `against: {name}`, or take the reference out"
            yield self.finding(opened, "LP065", "references", name, text=text, remedy=remedy)
