"""The rows of a kernel baseline that a band rests on: named in the contract, and compared with the file by lint."""

from __future__ import annotations

import fnmatch
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from logitproof.contract.history import Sha256
from logitproof.files.untrusted import Foreign, parse_json, read_bytes, validated

MOST = 3.0
"""Times its assumed error that a kernel may have: what every kernel of docs/kernels keeps."""


class KernelRows(BaseModel):
    """A file of `logitproof kernels`, and globs of `ENGINE PRECISION KIND NAME` that name its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline: str = Field(description="a file of `logitproof kernels`, relative to the contract")
    rows: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1, description="globs of `ENGINE PRECISION KIND NAME`")
    sha256: Sha256 | None = None


class _Kernel(Foreign):
    engine: str
    precision: str
    kind: str
    name: str
    rms: float
    assumed: float | None

    @property
    def title(self) -> str:
        return f"{self.engine} {self.precision} {self.kind} {self.name}"


class _Baseline(Foreign):
    kernels: list[_Kernel]


@dataclass(frozen=True)
class Linked:
    """The rows that a band rests on: how many, and what is wrong with them, each in a sentence."""

    count: int
    problems: tuple[str, ...]


def linked(rests_on: KernelRows, quantizations: list[str], folder: Path) -> Linked:
    """The rows in the baseline, compared with what the band says; raises ContractError where it cannot be read."""
    path = folder / rests_on.baseline
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    problems = []
    if rests_on.sha256 and digest != rests_on.sha256:
        problems.append(f"the baseline {rests_on.baseline} has sha256 {digest}, {rests_on.sha256} is written down")
    kernels = validated(path, _Baseline, parse_json(data, path)).kernels
    chosen: dict[str, _Kernel] = {}
    for glob in rests_on.rows:
        fitting = {kernel.title: kernel for kernel in kernels if fnmatch.fnmatchcase(kernel.title, glob)}
        if not fitting:
            problems.append(f"the baseline {rests_on.baseline} has no row {glob!r}")
        chosen |= fitting
    for title, kernel in chosen.items():
        if kernel.assumed is None:
            problems.append(f"the kernel {title} has no assumed error, so no band rests on it")
        elif not kernel.rms <= MOST * kernel.assumed or not math.isfinite(kernel.rms):
            problems.append(f"the kernel {title} is off by {kernel.rms:.2g}, {MOST:g} times {kernel.assumed:.2g} is assumed")
    problems += [
        f"no row of the quantization {label} is among those that the band of it rests on"
        for label in quantizations
        if chosen and not any(_belongs(kernel.precision, label) for kernel in chosen.values())
    ]
    return Linked(len(chosen), tuple(problems))


def _belongs(precision: str, label: str) -> bool:
    """Whether a kernel's type is one that a file of this label is made of: Q4_K of Q4_K_M."""
    return precision.upper() == label.upper() or label.upper().startswith(f"{precision.upper()}_")
