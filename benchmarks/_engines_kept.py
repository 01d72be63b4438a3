"""What is known of engines, in one file: cells, what each was measured with, and what is not here."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _engines_subjects import ROOT, Subject
from _rows_kept import Kept

from logitproof.engines._exported import exports
from logitproof.jobs import environments
from logitproof.jobs.worker import Spec
from logitproof.jobs.workers import Workers

Cell = dict[str, Any]
WORDS = 300
"""Characters of an engine's own last words that a cell keeps."""
MOVING = ("fingerprint", "weights")
"""What a server says of itself that is another each time it is started."""


@dataclass(frozen=True)
class Asked:
    """Whether cells are measured that are known, and until when a part is begun (`time.monotonic`)."""

    again: bool
    until: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until


class Known:
    """The cells of a result file, those of an older form with the keys that have come since."""

    def __init__(self, path: Path) -> None:
        self._file = Kept(path)

    def read(self) -> dict[str, Any]:
        """The whole file."""
        return self._file.read()

    def drop_not_here(self, labels: Collection[str]) -> None:
        """Forget why engines are not here of which cells are known."""
        self._file.change(
            lambda result: (
                result | {"not_here": {name: why for name, why in result.get("not_here", {}).items() if name not in labels}}
            )
        )

    def cells(self) -> list[Cell]:
        """Every cell."""
        return [of_now(cell) for cell in self._file.read().get("cells", [])]

    def has(self, name: Mapping[str, Any], identity: str, version: str) -> bool:
        """Whether the cells called `name` were measured with the same; an older form has the version alone."""
        cells = [cell for cell in self.cells() if is_called(cell, name)]
        same = [identity == cell["identity"] if cell["identity"] else version == cell["version"] for cell in cells]
        return bool(cells) and all(same)

    def put(self, name: Mapping[str, Any], cells: Sequence[Cell]) -> None:
        """In the place of all that are called `name`."""
        self._file.change(
            lambda result: (
                result
                | {"cells": [*(cell for cell in map(of_now, result.get("cells", [])) if not is_called(cell, name)), *cells]}
            )
        )

    def change(self, **keys: Any) -> None:
        """Other keys of the file; those that are dictionaries are added to."""
        self._file.change(
            lambda result: (
                result | {key: {**result.get(key, {}), **new} if isinstance(new, dict) else new for key, new in keys.items()}
            )
        )

    def finish(self, order: Sequence[str], **keys: Any) -> list[Cell]:
        """Cells in the order of the subjects' labels, and the counts of their statuses; returns the cells."""
        cells = sorted(self.cells(), key=lambda cell: (axis_of(cell), order.index(cell["engine"])))
        counts = {
            status: sum(cell["status"] == status for cell in cells) for status in sorted({cell["status"] for cell in cells})
        }
        by_axis = {axis: sum(axis_of(cell) == axis for cell in cells) for axis in ("zoo", "probes", "quantizations")}
        self._file.change(lambda result: {**keys, "counts": counts, "by_axis": by_axis, **_rest(result, keys), "cells": cells})
        return cells


def _rest(result: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in {*keys, "counts", "by_axis", "cells"}}


def axis_of(cell: Mapping[str, Any]) -> str:
    """The axis that a cell lies on."""
    if cell["probe"]:
        return "probes"
    return "zoo" if cell["quantization"] in ("original", "F32") else "quantizations"


def is_called(cell: Mapping[str, Any], name: Mapping[str, Any]) -> bool:
    """Whether a cell has these values."""
    return all(cell.get(key) == value for key, value in name.items())


def of_now(cell: Cell) -> Cell:
    """A cell with the keys that came with the probes and the quantizations."""
    if "quantization" in cell:
        return cell
    from _engines_subjects import SUBJECTS

    weights = {subject.label: subject.weights for subject in SUBJECTS}
    named = {key: cell[key] for key in ("engine", "version", "family")}
    return {**named, "probe": None, "quantization": weights[cell["engine"]], **cell, "identity": ""}


def versions_of(subject: Subject, options: Mapping[str, Any]) -> dict[str, str]:
    """What an engine says of itself; raises EngineError where it cannot be started."""
    with Workers() as workers:
        versions = dict(
            workers.of(Spec(subject.engine, dict(options), timeout=subject.timeout), subject.label).hello().versions
        )
    return {name: value for name, value in versions.items() if name not in MOVING}


def main_version(engine: str, versions: Mapping[str, str]) -> str:
    """The version of the engine itself among those that it says."""
    engine = engine.removesuffix("_gguf")
    names = [engine, engine.replace("_", "-"), *versions]
    return next((versions[name] for name in names if name in versions), "")


def identity(*parts: Any) -> str:
    """The hash of everything that a measurement rests on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def said(text: str) -> str:
    """The end of what an engine said, in one line: its last words stand there."""
    words = " ".join(without_machine(text).split())
    return words if len(words) <= WORDS else f"… {words[-WORDS:]}"


def without_machine(text: str) -> str:
    """The same words on every machine."""
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/logitproof-engines-\w+/", "", text)
    for place, name in (
        (f"{ROOT}/", ""),
        (str(environments.root()), "ENGINES"),
        (str(exports()), "EXPORTS"),
        (str(Path.home()), "~"),
    ):
        text = text.replace(place, name)
    return text
