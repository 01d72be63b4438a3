"""Rows that depend on the length of their pass: what is then compared with what."""

from __future__ import annotations

from collections.abc import Iterator

from logitproof.jobs.passes import may_cross
from logitproof.preflight import PER_LENGTH, Check, Finding, Setting, Setup
from logitproof.weights.passes import crossing_in

NOTE = "prefill, decode and generation are compared as the functions that they are, each with the reference's own"


class Passes(Check):
    """LongRoPE and dynamic NTK, where a prompt of the suites can reach beyond the length at which they begin."""

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        crossing = crossing_in(setup.original.path)
        prompts = ((prompt, suite.continuation(prompt)) for suite in setup.suites for prompt in suite.prompts)
        if crossing is not None and any(may_cross(crossing, *asked) for asked in prompts):
            yield Setting(PER_LENGTH, str(crossing), setup.file.path.name, "listed", NOTE)
