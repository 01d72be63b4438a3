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
    tally = NOTHING
    for prompt, reference, candidate in pairs:
        at = places(len(reference.token_ids))
        rows = reference.logits, candidate.logits
        tally += synchronized(*rows, reference.token_ids, sampling, tie, prompt=prompt, positions=at)
    if not tally.draws:
        return Section("same noise", "not measured", "")
    beyond = len(tally.faults) / tally.draws
    text = (
        f"with the same Gumbel noise {tally.equal} of {tally.draws} draws are the same token, {tally.ties} part within "
        f"{tie:.3g} logits, {len(tally.faults)} beyond: {beyond:.2%}, at most {bar.tv:.0%}"
    )
    return Section("same noise", "met" if beyond <= bar.tv else "missed", text, _figures(tally) | {"tie": tie})


def equal_completions(test: TwoSample | Missing, bar: Bar) -> Section:
    """Completions of both engines' own samplers come from one distribution, as far as the test can see."""
    if isinstance(test, Missing):
        return Section("sampler", "not measured", test.reason)
    text = f"completions: MMD² {test.mmd:.3g}, p = {test.p_value:.3g} over {test.completions} of {test.prompts} prompts"
    return Section("sampler", "missed" if test.differs(bar.alpha) else "met", text, asdict(test))


def seeded_sampler(tally: Synchronized | Missing) -> Section:
    """The engine's own sampler, from its own logits and its own noise: not one token may be another."""
    if isinstance(tally, Missing):
        return Section("seeded sampler", "not measured", tally.reason)
    text = f"of {tally.draws} tokens drawn from a seed {tally.equal} are foretold, {tally.ties} lie on a boundary"
    if tally.faults:
        first = tally.faults[0]
        text += f"; {len(tally.faults)} are wrong: {first.drawn} for {first.expected} ({first.prompt}, token {first.position})"
    met = bool(tally.draws) and not tally.faults
    return Section("seeded sampler", "met" if met else "missed", text, _figures(tally))


def _figures(tally: Synchronized) -> dict[str, Any]:
    shown = [asdict(fault) for fault in tally.faults[:20]]
    return {"draws": tally.draws, "equal": tally.equal, "ties": tally.ties, "beyond": len(tally.faults), "first": shown}
