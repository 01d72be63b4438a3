"""The figures of `kl` beside those that `llama-perplexity --kl-divergence` printed, digit for digit."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from logitproof.divergence.measure import Measured
from logitproof.divergence.text import label, shown
from logitproof.engines.llama_cli import ATTEMPTS
from waited_tool import LIBRARY

FLAGS = ["-t", "1", "-fa", "off", "--no-warmup", "--no-repack"]
"""The kernels of the engine `llamacpp` by its defaults, but for the types of the cache."""
FLOAT32 = 1e-7
WAITED = Path(__file__).with_name("waited_tool.py")
LAST = "Same top p:"
"""Of the summary: the head of the table before it has the words without the colon."""
PERPLEXITIES = ("ppl", "ppl_base", "ppl_difference")
"""Hundreds are printed with nine digits, of which the tool's float32 holds seven."""


def printed_by(words: Sequence[str | Path], timeout: float) -> str:
    """What the tool prints, once the last of its figures is there.

    It writes through a logger that it does not wait for, and on a busy machine ends first: where the library that it consists
    of is beside it, its own function is called, and the logger waited for.
    """
    if Path(words[0]).resolve().with_name(LIBRARY).is_file():
        words = [sys.executable, str(WAITED), *words]
    for _ in range(ATTEMPTS):
        printed = subprocess.run(words, check=True, capture_output=True, timeout=timeout).stdout.decode()
        if LAST in printed:
            return printed
    raise AssertionError(f"the tool ended {ATTEMPTS} times without {LAST!r}, last with {printed[-300:]!r}")


def differences(found: Measured, printed: str) -> dict[str, tuple[str, str]]:
    """(ours, the tool's) of every figure whose digits differ, or that the tool has not printed; empty where all are alike."""
    said = dict(figure for line in printed.splitlines() if (figure := _figure(line)))
    lost = FLOAT32 * max(found.figures[name].value for name in PERPLEXITIES[:2])
    wrong = {}
    for name, figure in found.figures.items():
        own = shown(name, figure.value).rstrip("%"), shown(name, figure.error).rstrip("%")
        value, error = said.get(label(name), ("nan", "nan"))
        alike = own[0] == value or (name in PERPLEXITIES and abs(float(own[0]) - float(value)) <= lost)
        if not alike or (own[1] != error and not (name in PERPLEXITIES and abs(float(own[1]) - float(error)) <= lost)):
            wrong[name] = " ± ".join(own), f"{value} ± {error}"
    return wrong


def _figure(line: str) -> tuple[str, tuple[str, str]] | None:
    """Name, value and error of a line such as `Mean    KLD:   0.036690 ±   0.001555`."""
    read = re.match(r"\s*([^:=]+?)\s*:\s*(-?[\d.]+)%?(?: ±\s*([\d.]+))?", line)
    return (" ".join(read[1].split()), (read[2], read[3] or "")) if read else None
