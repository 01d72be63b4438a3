"""Probes: tiny models in which a bug cannot hide, with token sequences, the logits they must give and a noise band.

A probe is a folder of `logitproof/probes/`: an HF model folder, `probe.json` and `expected.safetensors`. Its GGUF
file is made from the folder when an engine wants one, so both hold the same weights. To add one, see
`probes/README.md` of the repository. A package of your own registers a module beside such folders in the entry-point group
`logitproof.probes`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError, did_you_mean
from logitproof.files.causes import cause_of
from logitproof.files.safetensors import Tensors
from logitproof.files.untrusted import read_object
from logitproof.rows.distance import distances

PRECISIONS = ("float32", "float16", "bfloat16")
"""From the finest to the coarsest arithmetic for which a probe may have a band."""
FACTOR = 4.0
"""A band is this often the largest distance that any witness of its precision was measured at."""
KILLED_AT = 10.0
"""A bug counts as killed where its distance is this often the band."""


@dataclass(frozen=True)
class Case:
    """One sequence of a probe. `expected` is float32 [P, V], the rows at `positions`.

    `band` gives, by precision, the largest distance that is still noise; a precision without one is not judged.
    """

    name: str
    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    expected: np.ndarray
    band: dict[str, float]

    def distances(self, logits: np.ndarray) -> np.ndarray:
        """float64 [P]: root mean square difference of the logits [T, V] at each position, mean difference taken off.

        Infinite where a logit is not finite.
        """
        return distances(self.expected, logits[list(self.positions)])


@dataclass(frozen=True)
class Text:
    """A text and the token ids that the probe's tokenizer makes of it, special tokens included."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """One tiny model. `witnesses` are the engines that agreed on it, with the distance measured of each.

    `special` is a special token and its id; `begins_with` is how many tokens its tokenizer puts before a text.
    """

    name: str
    folder: Path
    family: str
    exposes: str
    cases: tuple[Case, ...]
    texts: tuple[Text, ...]
    vocab_size: int
    witnesses: tuple[dict[str, Any], ...]
    special: tuple[str, int]
    begins_with: int

    def judges(self, precision: str) -> bool:
        """Whether some case has a band for it."""
        return any(precision in case.band for case in self.cases)

    def case(self, name: str) -> Case:
        """The case called `name`."""
        return next(case for case in self.cases if case.name == name)


def probe_names() -> list[str]:
    """Names of the probes that come with the package, and of those that other packages register, sorted."""
    return sorted(_folders())


def open_probes(names: Iterable[str] | None = None) -> list[Probe]:
    """The probes called `names`, or of the families called so, or all; ContractError for a name that is neither."""
    every = [read_probe(folder) for _, folder in sorted(_folders().items())]
    if names is None:
        return every
    wanted = list(names)
    known = {label for probe in every for label in (probe.name, probe.family)}
    for name in wanted:
        if name not in known:
            raise ContractError(f"no probe is called {name!r}{did_you_mean(name, sorted(known))}", where="--arch")
    return [probe for probe in every if {probe.name, probe.family} & set(wanted)]


def read_probe(folder: Path) -> Probe:
    """The probe in `folder`; ContractError where it is damaged."""
    try:
        record = read_object(folder / "probe.json")
        tensors = Tensors(folder / "expected.safetensors")
        expected = {name: tensors.array(name, "f") for name in tensors.names}
        cases = [_case(case, expected) for case in record["cases"]]
        return Probe(
            name=folder.name,
            folder=folder,
            family=record["family"],
            exposes=record["exposes"],
            cases=tuple(cases),
            texts=tuple(Text(text["text"], tuple(text["token_ids"])) for text in record["texts"]),
            vocab_size=int(record["vocab_size"]),
            witnesses=tuple(record["witnesses"]),
            special=(str(record["special"][0]), int(record["special"][1])),
            begins_with=int(record["begins_with"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContractError(f"is no whole probe: {cause_of(error)}", where=str(folder), remedy="reinstall logitproof") from None


def _case(record: dict[str, Any], expected: dict[str, np.ndarray]) -> Case:
    rows = expected[record["name"]]
    positions = tuple(record["positions"])
    if len(rows) != len(positions) or not positions or max(positions) >= len(record["token_ids"]):
        raise ValueError(f"case {record['name']} has {len(rows)} rows for {len(positions)} positions")
    return Case(record["name"], tuple(record["token_ids"]), positions, rows, dict(record["band"]))


def _folders() -> dict[str, Path]:
    """Every probe's folder by its name: our own, and those beside a module of the entry-point group `logitproof.probes`."""
    homes = [Path(str(resources.files("logitproof.acid"))) / "probes"]
    for point in importlib.metadata.entry_points(group="logitproof.probes"):
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            raise ContractError(
                f"the plugin {point.name!r} of probes points at {point.module!r}, which cannot be found",
                remedy="reinstall or remove the package that registers it",
            )
        homes.append(Path(spec.origin).parent)
    folders: dict[str, Path] = {}
    for folder in [path.parent for home in homes for path in sorted(home.glob("*/probe.json"))]:
        if folder.name in folders:
            raise ContractError(
                f"two probes are called {folder.name!r}: {folders[folder.name]} and {folder}", remedy="rename one"
            )
        folders[folder.name] = folder
    return folders
