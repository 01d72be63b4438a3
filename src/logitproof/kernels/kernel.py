"""One kernel of an engine, measured against float64."""

from __future__ import annotations

from dataclasses import dataclass

SETTINGS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Kernel:
    """One operation in one type. Errors are over the RMS of its exact output; the input's `peak` over its own RMS.

    `assumed` is the relative RMS error that the noise of `calibrate` has there, None where it is made of other operations.
    """

    engine: str
    kind: str
    name: str
    precision: str
    shape: tuple[int, ...]
    rms: float
    p999: float
    assumed: float | None
    input_rms: float
    input_peak: float
