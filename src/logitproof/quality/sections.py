"""What a judged run says about generation quality: one entry a candidate, model and quantization, section by section."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from logitproof.comparison.summary import summarize
from logitproof.errors import Missing
from logitproof.jobs.cell import Cell
from logitproof.protocol.sampler import Sampling
from logitproof.quality import greedy as free
from logitproof.quality.horizon import Horizon, horizon
from logitproof.quality.mismatch import Mismatch, label_log_probabilities, mismatch
from logitproof.quality.replay import SamplerTests
from logitproof.quality.sampled import drawn_from, places
from logitproof.quality.sampler_sections import equal_completions, same_noise, seeded_sampler
from logitproof.quality.section import Bar, Section
from logitproof.report.report import Report
from logitproof.traces.trace import Trace, whole
from logitproof.verdict.compared import Compared

NEEDS = {
    "teacher forcing": "prefill",
    "cache": "decode",
    "greedy": "greedy",
    "distribution": "prefill",
    "same noise": "prefill",
    "mismatch": "prefill",
}
"""The mode that a section is measured in."""
MAKES_BAR = ("greedy", "teacher forcing")
TIE = 0.15
"""Logits: a margin that 16-bit rounding closes. What quantization loses beyond it is lost quality and no tie."""


@dataclass(frozen=True)
class Quality:
    """All sections of one candidate on one model and quantization."""

    candidate: str
    model: str
    quantization: str
    bar: Bar
    sections: tuple[Section, ...]
    worst: tuple[free.Continuation, ...] = ()

    @property
    def meets_bar(self) -> bool:
        """Every section that was measured is met, and the two that make a bar were measured."""
        return not self.short

    @property
    def short(self) -> tuple[Section, ...]:
        """The sections that keep it from its bar: those that are missed, or else what makes a bar and was not measured."""
        missed = tuple(section for section in self.sections if section.met == "missed")
        return missed or tuple(section for section in self.sections if section.name in MAKES_BAR and section.met != "met")

    def section(self, name: str) -> Section:
        return next(section for section in self.sections if section.name == name)

    def as_json(self) -> dict[str, Any]:
        """Plain data; numbers that are not finite become null."""
        return {
            "candidate": self.candidate,
            "model": self.model,
            "quantization": self.quantization,
            "bar": asdict(self.bar),
            "meets_bar": self.meets_bar,
            "sections": [asdict(section) for section in self.sections],
        }


@dataclass(frozen=True)
class Extra:
    """What is measured beside the run itself: samplers, and the distances to the model without its adapter."""

    samplers: SamplerTests
    adapter: tuple[float, float] | None

    @classmethod
    def of(
        cls, key: tuple[str, str, str], tests: Mapping[str, SamplerTests], adapters: Mapping[str, tuple[float, float]]
    ) -> Extra:
        name = "/".join(key)
        none = Missing("no completions were drawn")
        return cls(tests.get(name, SamplerTests(none, none)), adapters.get(name))


def qualities(
    report: Report,
    sampling: Sampling,
    tests: Mapping[str, SamplerTests] | None = None,
    bar: Bar | None = None,
    adapters: Mapping[str, tuple[float, float]] | None = None,
) -> list[Quality]:
    """Sections of every candidate of a run.

    `tests` holds what was found of each candidate's own sampler; `adapters` what `adapter_distances` found.
    """
    for trace in report.results.values():
        if isinstance(trace, Trace):
            whole(trace)
    groups: dict[tuple[str, str, str], dict[str, tuple[Cell, Sequence[Compared]]]] = {}
    for cell, rows in report.compared.items():
        groups.setdefault((cell.candidate, cell.model, cell.quantization), {})[cell.mode] = (cell, rows)
    return [
        _quality(report, key, cells, sampling, Extra.of(key, tests or {}, adapters or {}), bar) for key, cells in groups.items()
    ]


def _quality(
    report: Report,
    key: tuple[str, str, str],
    cells: Mapping[str, tuple[Cell, Sequence[Compared]]],
    sampling: Sampling,
    extra: Extra,
    bar: Bar | None,
) -> Quality:
    bar = bar or Bar.of(key[2])
    rows = {mode: [row for row in compared if row.comparison is not None] for mode, (_, compared) in cells.items()}
    failed = [row.failure.text for _, compared in cells.values() for row in compared if row.failure]
    continuations = [_continuation(report, row) for row in rows.get("greedy", [])]
    made = (
        _set_up(failed),
        _teacher_forced(rows.get("prefill", []), bar),
        _decode(rows, bar),
        _greedy(report, cells, continuations, bar),
        _drawn(report, rows.get("prefill", []), sampling, bar),
        same_noise(_pairs(report, rows.get("prefill", [])), sampling, _tie(report, cells.get("prefill")), bar),
        equal_completions(extra.samplers.test, bar),
        seeded_sampler(extra.samplers.replay),
        _adapter(extra.adapter, rows.get("prefill", []), bar),
        _rollout(report, rows.get("prefill", [])),
        _long(rows.get("decode") or rows.get("prefill", [])),
    )
    absent = {name: mode for name, mode in NEEDS.items() if not rows.get(mode)}
    sections = tuple(
        replace(section, said=_why_absent(report, key, absent[section.name], cells)) if section.name in absent else section
        for section in made
    )
    return Quality(*key, bar, sections, tuple(free.worst(continuations)))


def _why_absent(
    report: Report, key: tuple[str, str, str], mode: str, cells: Mapping[str, tuple[Cell, Sequence[Compared]]]
) -> str:
    """Why there is nothing to measure in a mode: nobody asked for it, it could not be planned, or it failed."""
    if mode in cells:
        failure = next((row.failure for row in cells[mode][1] if row.failure), None)
        text = failure.text.partition("\n")[0] if failure else "no prompt has a position"
        return f"nothing was compared in {mode}: {text}"
    name = "/".join((*key, mode))
    reasons = [entry.reason for entry in report.verdict.unmeasured if entry.cell == name or entry.cell.startswith(f"{name}/")]
    return reasons[0] if reasons else f"the contract has no {mode} cell of it: name {mode} under `matrix: mode`"


def _set_up(failed: Sequence[str]) -> Section:
    if failed:
        return Section("set-up", "missed", failed[0].partition("\n")[0], {"failures": list(dict.fromkeys(failed))})
    return Section("set-up", "met", "same tokens, same vocabulary, every prompt measured")


def _teacher_forced(rows: Sequence[Compared], bar: Bar) -> Section:
    if not rows:
        return Section("teacher forcing", "not measured", "")
    figures = _kl(rows)
    kl = figures["kl_divergence"]["mean"]
    low, high = figures["kl_divergence"]["interval"] or (math.nan, math.nan)
    text = f"mean KL {kl:.3g} nats (95 % {low:.3g} to {high:.3g}), at most {bar.kl:g}; top-1 {figures['top1']['mean']:.2%}"
    return Section("teacher forcing", "met" if kl <= bar.kl else "missed", text, figures)


def _decode(rows: Mapping[str, Sequence[Compared]], bar: Bar) -> Section:
    """The cache is judged against the pass without one: what decode adds to prefill."""
    if not rows.get("decode"):
        return Section("cache", "not measured", "")
    figures = _kl(rows["decode"])
    kl, prefill = (
        figures["kl_divergence"]["mean"],
        _kl(rows["prefill"])["kl_divergence"]["mean"] if rows.get("prefill") else 0.0,
    )
    allowed = max(bar.kl, 2 * prefill)
    text = f"mean KL through the cache {kl:.3g} nats, in one pass {prefill:.3g}, at most {allowed:.3g}"
    return Section("cache", "met" if kl <= allowed else "missed", text, figures)


def _greedy(
    report: Report,
    cells: Mapping[str, tuple[Cell, Sequence[Compared]]],
    continuations: Sequence[free.Continuation],
    bar: Bar,
) -> Section:
    if not continuations:
        return Section("greedy", "not measured", "")
    tie = _tie(report, cells["greedy"])
    at10, at50 = free.token_rate(continuations, 10, tie), free.token_rate(continuations, 50, tie)
    regrets = [continuation.regret for continuation in continuations if continuation.regret is not None]
    strict = free.token_rate(continuations, 10)
    figures = {
        "match10": _rate(at10),
        "match50": _rate(at50),
        "match10_strict": _rate(strict),
        "match50_strict": _rate(free.token_rate(continuations, 50)),
        "prompts10": _rate(free.prompt_rate(continuations, 10, tie)),
        "prompts10_strict": _rate(free.prompt_rate(continuations, 10)),
        "tie_margin": tie,
        "first_divergence": free.histogram(continuations),
        "regret_mean": float(np.mean(regrets)) if regrets else None,
        "regret_max": max(regrets, default=None),
    }
    text = f"greedy match@10 {at10}, at least {bar.greedy10:.0%}; @50 {at50.value:.2%}; strict @10 {strict.value:.2%}"
    return Section("greedy", "met" if at10.value >= bar.greedy10 else "missed", text, figures)


def _drawn(report: Report, rows: Sequence[Compared], sampling: Sampling, bar: Bar) -> Section:
    name = f"temperature {sampling.temperature:g}"
    if not rows:
        return Section("distribution", "not measured", "")
    columns: dict[str, list[np.ndarray]] = {"kl": [], "tv": [], "js": [], "kept": []}
    for row in rows:
        reference, candidate = _traces(report, row)
        for position in places(len(reference.token_ids)):
            part = slice(position, position + 1)
            distances = drawn_from(
                reference.logits[part], candidate.logits[part], reference.token_ids[: position + 1], sampling
            )
            for key, values in columns.items():
                values.append(getattr(distances, key))
    figures = {key: summarize([np.concatenate(values)], seed=0) for key, values in columns.items()}
    tv = figures["tv"]["mean"]
    text = f"at {name} total variation {tv:.3g} in the mean, at most {bar.tv:g}; KL {figures['kl']['mean']:.3g} nats"
    return Section("distribution", "met" if tv <= bar.tv else "missed", text, {"sampling": asdict(sampling), **figures})


def _tie(report: Report, entry: tuple[Cell, Sequence[Compared]] | None) -> float:
    """Logits below which a margin is a tie in this cell; 0 where there is no cell or it has no band."""
    bands = [cell.band for cell in report.verdict.cells if entry and cell.cell == entry[0]]
    return next((min(band.tie_margin, TIE) for band in bands if band), 0.0)


def _pairs(report: Report, rows: Sequence[Compared]) -> Iterator[tuple[str, Trace, Trace]]:
    for row in rows:
        yield (row.pair.prompt.id, *_traces(report, row))


def _adapter(distances: tuple[float, float] | None, rows: Sequence[Compared], bar: Bar) -> Section:
    """The candidate must be nearer to the model with its adapter than to the one without, and the two must differ."""
    if distances is None or not rows:
        return Section("adapter", "not measured", "the reference has no adapter")
    changed, ignored = distances
    kl = _kl(rows)["kl_divergence"]["mean"]
    figures = {"changes": changed, "to_plain": ignored, "to_adapted": kl}
    if changed <= 10 * bar.kl:
        return Section(
            "adapter", "missed", f"the adapter changes the reference by {changed:.3g} nats only: nothing is proven", figures
        )
    text = f"{kl:.3g} nats from the model with its adapter, {ignored:.3g} from the one without; they differ by {changed:.3g}"
    return Section("adapter", "met" if kl < ignored / 4 else "missed", text, figures)


def _rollout(report: Report, rows: Sequence[Compared]) -> Section:
    """The candidate as trainer of what the reference generated; reported and not judged, since no bar is agreed on."""
    pairs = [_traces(report, row) for row in rows]
    tokens = [trace.token_ids[max(row.prompt_length, 1) :] for (trace, _), row in zip(pairs, rows, strict=True)]
    if not any(tokens):
        return Section("mismatch", "not measured", "the reference continued by no token")
    sides: list[list[np.ndarray]] = [[], []]
    for pair, row in zip(pairs, rows, strict=True):
        for side, trace in zip(sides, pair, strict=True):
            side.append(label_log_probabilities(trace.logits, pair[0].token_ids, max(row.prompt_length, 1)))
    gap: Mismatch = mismatch(sides[0], sides[1], tokens, [row.pair.prompt.id for row in rows])
    text = (
        f"k1 {gap.k1:.3g}, k3 {gap.k3:.3g} nats, effective samples {gap.effective_samples:.1%}, "
        f"largest ratio {gap.max_ratio:.3g} over {gap.tokens} tokens"
    )
    return Section("mismatch", "met", text, asdict(gap))


def _long(rows: Sequence[Compared]) -> Section:
    try:
        drift: Horizon = horizon([row.comparison.metrics["kl_divergence"] for row in rows if row.comparison], BOUNDARIES)
    except ValueError as error:
        return Section("long horizon", "not measured", str(error))
    low, high = drift.interval
    text = f"KL grows as position^{drift.growth:.2f} (95 % {low:.2f} to {high:.2f}) over {drift.bins[-1][1] + 1} positions"
    if drift.jumps:
        text += "; it jumps at " + ", ".join(f"{at} (×{ratio:.3g})" for at, ratio in drift.jumps)
    # Rounding noise of 1e-12 nats may grow as it likes: what is nothing everywhere is no drift.
    last = drift.bins[-1][2]
    bad = (drift.grows or drift.jumps) and last > TRIFLE
    return Section("long horizon", "missed" if bad else "met", text, asdict(drift))


BOUNDARIES = (32, 64, 128, 256, 512, 1024, 2048)
"""Positions at which caches, batches and windows of engines usually end."""
TRIFLE = 1e-4


def _kl(rows: Sequence[Compared]) -> dict[str, Any]:
    names = ("kl_divergence", "js_divergence", "total_variation", "top1", "delta_p")
    return {
        name: summarize([row.comparison.metrics[name] for row in rows if row.comparison], seed=0)
        for name in names
        if any(row.comparison and np.isfinite(row.comparison.metrics[name]).any() for row in rows)
    }


def _continuation(report: Report, row: Compared) -> free.Continuation:
    reference, candidate = _traces(report, row)
    reference_ids, candidate_ids = tuple(reference.new_token_ids), tuple(candidate.new_token_ids)
    continuation = free.Continuation(row.pair.prompt.id, row.pair.prompt.bucket, reference_ids, candidate_ids)
    if not continuation.parted or row.comparison is None or continuation.shared >= row.comparison.positions:
        return continuation
    columns = row.comparison.metrics
    margin, regret = float(columns["margin"][continuation.shared]), float(columns["regret"][continuation.shared])
    return free.Continuation(continuation.prompt, continuation.bucket, reference_ids, candidate_ids, margin, regret)


def _traces(report: Report, row: Compared) -> tuple[Trace, Trace]:
    reference, candidate = report.results[row.pair.reference], report.results[row.pair.candidate]
    assert isinstance(reference, Trace) and isinstance(candidate, Trace)
    return reference, candidate


def _rate(rate: free.Rate) -> dict[str, Any]:
    return {"value": rate.value, "hits": rate.hits, "trials": rate.trials, "interval": list(rate.interval)}
