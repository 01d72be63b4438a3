"""Sections about drawing tokens: with the same noise, by completions alone, and by the engine's own seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from logitproof.errors import Missing
from logitproof.protocol.sampler import Sampling
from logitproof.quality.sampled import places
from logitproof.quality.section import Bar, Section
from logitproof.quality.synchronized import NOTHING, Synchronized, synchronized
from logitproof.quality.two_sample import TwoSample
from logitproof.traces.trace import Trace


def same_noise(pairs: Iterable[tuple[str, Trace, Trace]], sampling: Sampling, tie: float, bar: Bar) -> Section:
    """Tokens that both sides' logits give with the same Gumbel noise: no more may part than distributions may.

    `pairs` are prompt, reference and candidate; `tie` in logits.
    """
    found = NOTHING
    for prompt, reference, candidate in pairs:
        at = places(len(reference.token_ids))
        rows = reference.logits, candidate.logits
        found += synchronized(*rows, reference.token_ids, sampling, tie, prompt=prompt, positions=at)
    if not found.draws:
        return Section("same noise", "not measured", "the contract has no prefill cell of it")
    beyond = len(found.faults) / found.draws
    said = (
        f"with the same Gumbel noise {found.equal} of {found.draws} draws are the same token, {found.ties} part within "
        f"{tie:.3g} logits, {len(found.faults)} beyond: {beyond:.2%}, at most {bar.tv:.0%}"
    )
    return Section("same noise", "met" if beyond <= bar.tv else "missed", said, _figures(found) | {"tie": tie})


def equal_completions(test: TwoSample | Missing, bar: Bar) -> Section:
    """Completions of both engines' own samplers come from one distribution, as far as the test can see."""
    if isinstance(test, Missing):
        return Section("sampler", "not measured", test.reason)
    said = f"completions: MMD² {test.mmd:.3g}, p = {test.p_value:.3g} over {test.completions} of {test.prompts} prompts"
    return Section("sampler", "missed" if test.differs(bar.alpha) else "met", said, asdict(test))


def seeded_sampler(found: Synchronized | Missing) -> Section:
    """The engine's own sampler, from its own logits and its own noise: not one token may be another."""
    if isinstance(found, Missing):
        return Section("seeded sampler", "not measured", found.reason)
    said = f"of {found.draws} tokens drawn from a seed {found.equal} are foretold, {found.ties} lie on a boundary"
    if found.faults:
        first = found.faults[0]
        said += f"; {len(found.faults)} are wrong: {first.drawn} for {first.expected} ({first.prompt}, token {first.position})"
    met = bool(found.draws) and not found.faults
    return Section("seeded sampler", "met" if met else "missed", said, _figures(found))


def _figures(found: Synchronized) -> dict[str, Any]:
    shown = [asdict(one) for one in found.faults[:20]]
    return {"draws": found.draws, "equal": found.equal, "ties": found.ties, "beyond": len(found.faults), "first": shown}
