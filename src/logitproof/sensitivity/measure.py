"""Every tensor, layer and kind in a type alone, and all but it: KL divergence of the output from the float32 reference's.

A result is written as it comes, and read again by the next run of the same weights, tokens and types.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from logitproof.comparison.chance import bootstrap_ratio
from logitproof.errors import ContractError, EngineGarbage
from logitproof.files.atomic import content_key
from logitproof.files.sources import import_closure, sources_sha256
from logitproof.files.untrusted import parse_json, read_text
from logitproof.rows.statistics import row_statistics
from logitproof.sensitivity.types import Tensor, makers, type_of

if TYPE_CHECKING:
    import torch

    from logitproof.reference.shared import Boundaries
    from logitproof.sensitivity.subject import Subject

Group = Literal["all", "tensor", "layer", "kind", "plan"]
RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Unit:
    """What is quantized together: one tensor, those of a layer or of a kind, or all; `but` turns it round."""

    group: Group
    name: str
    type: str
    but: bool = False

    @property
    def id(self) -> str:
        """Its name in the file of results."""
        return f"{self.type} {'all but ' if self.but else ''}{self.group} {self.name}"


@dataclass(frozen=True)
class Cost:
    """KL divergence of a unit in nats: the mean over positions, its 95 % interval over windows, and each window's sum."""

    unit: Unit
    mean: float
    interval: tuple[float, float] | None
    largest: float
    sums: tuple[float, ...] = field(repr=False)


class Bench:
    """Measures units of a subject on windows [B, T]; of each window all positions count but the first."""

    def __init__(self, subject: Subject, fed: torch.Tensor, folder: Path | None, about: dict[str, str]) -> None:
        from logitproof.reference.versions import instruction_set, versions

        self.subject, self.fed = subject, fed
        self.counted = fed.shape[1] - 1
        subject.plant({})
        self._exact = subject.boundaries()
        self._reference = subject.run(fed, self._exact)
        self._full: tuple[str, Boundaries] | None = None
        code = sources_sha256(import_closure(Path(__file__)))
        key = {**about, "tokens": fed.tolist(), "code": code, "libraries": versions(), "isa": instruction_set()}
        self._kept = Results(folder / RESULTS, content_key(key)) if folder else None

    @property
    def positions(self) -> int:
        """Positions behind every number."""
        return int(self.fed.shape[0]) * self.counted

    def cost(self, unit: Unit, kinds: dict[str, str]) -> Cost:
        """What it costs to have these tensors in these types, all others being exact; read where it was measured before."""
        made = makers({*kinds.values(), unit.type})
        id_of = f"{unit.id} {content_key({'types': kinds, 'made by': made})[:12]}"
        kept = self._kept.read(id_of, len(self.fed)) if self._kept else None
        sums, largest = kept or self._measured(unit, kinds)
        if self._kept and kept is None:
            self.subject.refuse_changed()
            self._kept.write(id_of, sums, largest)
        counts = np.full(len(sums), self.counted, np.float64)
        interval = bootstrap_ratio(np.array(sums), counts) if len(sums) > 1 else None
        return Cost(unit, float(sum(sums) / counts.sum()), interval, largest, sums)

    def _measured(self, unit: Unit, kinds: dict[str, str]) -> tuple[tuple[float, ...], float]:
        subject = self.subject
        if not unit.but:
            if not kinds:
                return tuple(0.0 for _ in self.fed), 0.0
            first = subject.first(kinds)
            subject.plant(kinds)
            logits = subject.run(self.fed, self._exact, first)
        else:
            every = {tensor.name: type_of(tensor, unit.type) for tensor in subject.tensors}
            boundaries = self._of_all(unit.type, every)
            left = [name for name in every if name not in kinds]
            subject.plant(kinds)
            logits = subject.run(self.fed, boundaries, subject.first(left))
        return self._divergence(logits, unit)

    def _of_all(self, kind: str, every: dict[str, str]) -> Boundaries:
        """What enters the layers of the model that is quantized whole."""
        if self._full is None or self._full[0] != kind:
            self.subject.plant(every)
            boundaries = self.subject.boundaries()
            self.subject.run(self.fed, boundaries)
            self._full = (kind, boundaries)
        return self._full[1]

    def _divergence(self, logits: np.ndarray, unit: Unit) -> tuple[tuple[float, ...], float]:
        """KL(reference ‖ quantized) in float64: its sum over the positions of each window, and the largest of one."""
        sums, largest = [], 0.0
        for reference, candidate in zip(self._reference, logits, strict=True):
            statistics = row_statistics(reference[1:], candidate[1:], np.full(self.counted, -1, np.int64))
            mass = statistics.log_mass_candidate - statistics.log_mass_reference
            values = np.maximum(mass - statistics.p_delta, 0.0)
            if not np.isfinite(values).all():
                raise EngineGarbage(f"{unit.id}: the logits are not finite", remedy="see whether the weights hold NaN")
            sums.append(float(values.sum()))
            largest = max(largest, float(values.max()))
        return tuple(sums), largest


class Results:
    """A line a result, of the runs of one key; a line that was cut off, or of another key, is as if it were not there."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._lines: dict[str, tuple[tuple[float, ...], float]] = {}
        if path.is_file():
            for line in read_text(path, remedy="remove it, and everything is measured again").splitlines():
                self._take(line)

    def read(self, name: str, windows: int) -> tuple[tuple[float, ...], float] | None:
        """The sums of the windows and the largest of a position; None of what was not measured on as many windows."""
        sums, largest = self._lines.get(name, ((), 0.0))
        return (sums, largest) if len(sums) == windows else None

    def write(self, name: str, sums: Sequence[float], largest: float) -> None:
        """Add a result and have it on the disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            # the line of a run that was killed may have no end, and this one would be lost with it
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            begin = b"" if file.read(1) in (b"", b"\n") else b"\n"
            line = json.dumps({"key": self._key, "unit": name, "sums": list(sums), "largest": largest})
            file.write(begin + line.encode() + b"\n")

    def _take(self, line: str) -> None:
        try:
            entry = parse_json(line, self._path)
            if entry["key"] == self._key:
                values = np.array([*entry["sums"], entry["largest"]], np.float64)
                if values.ndim == 1 and np.isfinite(values).all() and (values >= 0).all():
                    self._lines[str(entry["unit"])] = (tuple(values[:-1].tolist()), float(values[-1]))
        except (ContractError, ValueError, KeyError, TypeError):
            return


def units_of(tensors: Sequence[Tensor], types: Sequence[str], *, all_but: bool) -> Iterator[tuple[Unit, dict[str, str]]]:
    """Units with the types of their tensors: each type for tensors alone and for all, the first for all else."""
    for kind in types:
        yield Unit("all", "", kind), {tensor.name: type_of(tensor, kind) for tensor in tensors}
    for kind in types:
        yield from ((Unit("tensor", tensor.name, kind), {tensor.name: type_of(tensor, kind)}) for tensor in tensors)
    kind = types[0]
    every = {tensor.name: type_of(tensor, kind) for tensor in tensors}
    groups = [("layer", name, members) for name, members in _by(tensors, lambda tensor: tensor.layer)]
    groups += [("kind", name, members) for name, members in _by(tensors, lambda tensor: tensor.kind)]
    for group, name, members in groups:
        yield Unit(group, name, kind), {member: every[member] for member in members}  # type: ignore[arg-type]
    if all_but:
        groups = [("tensor", tensor.name, [tensor.name]) for tensor in tensors] + groups
        for group, name, members in groups:
            left = {name_of: word for name_of, word in every.items() if name_of not in members}
            yield Unit(group, name, kind, but=True), left  # type: ignore[arg-type]


def _by(tensors: Sequence[Tensor], key: Callable[[Tensor], object]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for tensor in tensors:
        if key(tensor) is not None:
            groups.setdefault(str(key(tensor)), []).append(tensor.name)
    return list(groups.items())
