"""The reference's own error bar: how far it is from itself under settings that should not matter.

Its runs under other settings, the runs of other builds and those of a witness are jobs like any other, and
cells that no gate looks at: `yardsticks`. What a gate demands beyond the reference's own error is no proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.bands.band import Band
from logitproof.bands.calculated import CalculatedBand
from logitproof.comparison.summary import Summary, summarize
from logitproof.contract.contract import Contract, EngineUse, Gate, Mode
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError, EngineError
from logitproof.jobs.cell import Cell
from logitproof.jobs.job import Job, engine_facts, make_job
from logitproof.jobs.passes import crosses
from logitproof.jobs.plan import Plan
from logitproof.jobs.sides import label_read, path_of
from logitproof.jobs.specs import spec_of
from logitproof.jobs.worker import Spec
from logitproof.protocol.messages import HelloResult
from logitproof.report.record import ReferenceErrors
from logitproof.verdict.case import OwnError
from logitproof.verdict.compared import Compared, values_of
from logitproof.verdict.gate_rows import gate_values
from logitproof.verdict.ties import outside_ties, tied_metrics

OWN = "reference/"
"""Begins the candidate's name of a yardstick; no candidate of a contract has a slash in its name."""
WITNESS = "witness"
FREE: Mode = "greedy"
PAIRED = ("prefill", "decode")
AGREES = 0.1
"""Share of another distance below which two engines count as agreeing."""
METRIC = "kl_divergence"
ROUNDING = 1e-9
"""Mean KL in nats of two healthy float32 engines at most: an RMS of 4e-5 logits, by KL = RMS²/2 of a small difference."""
OWN_FACTOR = 4.0
"""Two errors of the size of the reference's own are apart by twice its size in logits, by four times in KL."""


@dataclass(frozen=True)
class Variant:
    """One more run of the reference: its name, how to start it, and the mode of its scoring."""

    name: str
    spec: Spec
    hello: HelloResult | None
    mode: Mode = "prefill"
    free: bool = True


def further_specs(opened: OpenContract) -> dict[str, Spec]:
    """Engines beside those of the matrix: the witness and other builds of the reference."""
    contract = opened.contract
    uses: dict[str, EngineUse] = {f"{OWN}build {name}": use for name, use in contract.error_bar.builds.items()}
    if contract.witness is not None:
        uses[WITNESS] = contract.witness
    return {name: spec_of(use, opened) for name, use in uses.items()}


def with_yardsticks(opened: OpenContract, planned: Plan, hellos: Mapping[str, Any]) -> Plan:
    """The plan with the runs that the reference is measured by, on prompts that the matrix scores anyway."""
    jobs = {job.key: job for job in planned.jobs}
    yardsticks: list[Cell] = []
    for (model, label), cells in _by_truth(opened.contract, planned.cells).items():
        for variant in _variants(opened, hellos):
            for cell in _one_of_each(cells, variant):
                yardstick = _yardstick(variant, cell, model, label, jobs, planned, opened.contract.error_bar.prompts)
                yardsticks += [yardstick] if yardstick.pairs else []
        yardsticks += _witness(opened, planned, hellos, cells, model, jobs)
    return replace(planned, jobs=tuple(jobs.values()), yardsticks=tuple(yardsticks))


def reference_errors(
    contract: Contract,
    cells: Mapping[Cell, Band | CalculatedBand | None],
    measured: Mapping[Cell, Sequence[Compared]],
) -> dict[str, dict[str, OwnError]]:
    """By cell and gate: what the gate would observe of the reference against itself, at the worst of its runs.

    `cells` have their bands, which say what a tie is.
    """
    own = {cell: rows for cell, rows in measured.items() if cell.candidate.startswith(OWN)}
    known = {(gate.id, cell): _own_value(gate, rows) for gate in contract.gates for cell, rows in own.items()}
    errors: dict[str, dict[str, OwnError]] = {}
    for cell, band in cells.items():
        runs = [yardstick for yardstick in own if _measures(yardstick, cell, contract)]
        for gate in (gate for gate in contract.gates if gate.selects(cell.axes)):
            if gate.metric in tied_metrics():
                tied = ((_own_value(gate, [outside_ties(row, band) for row in own[run]]), run) for run in runs)
                values = [(value, run) for value, run in tied if value is not None]
            else:
                values = [(value, run) for run in runs if (value := known[gate.id, run]) is not None]
            if values:
                # Of equal runs the first is named where large is bad, the last where small is: so verdicts stay comparable.
                is_bad_high = gate.at_most is not None
                value, run = max(values, key=_value) if is_bad_high else min(reversed(values), key=_value)
                errors.setdefault(cell.id, {})[gate.id] = OwnError(value, run.candidate.removeprefix(OWN))
    return errors


def _value(pair: tuple[float, Cell]) -> float:
    return pair[0]


def _own_value(gate: Gate, rows: Sequence[Compared]) -> float | None:
    """What a gate would observe in one run of the reference, or None where it measures nothing there."""
    statistics = _statistics(gate_values(gate, rows))
    return statistics[gate.statistic] if statistics else None


def witness_words(cells: Mapping[Cell, Sequence[Compared]], measured: Mapping[Cell, Sequence[Compared]]) -> dict[str, str]:
    """By cell: what a second engine says about reference and candidate, in words."""
    sentences: dict[str, str] = {}
    for yardstick, rows in measured.items():
        if not yardstick.candidate.startswith(f"{WITNESS}/"):
            continue
        name = yardstick.candidate.removeprefix(f"{WITNESS}/")
        cell = next(
            (cell for cell in cells if cell.id == f"{name}/{yardstick.model}/{yardstick.quantization}/{yardstick.mode}"), None
        )
        truth = next((run for run in measured if run.candidate == WITNESS and run.model == yardstick.model), None)
        if cell is not None and truth is not None:
            noise = _noise(cell.model, measured)
            sentences[cell.id] = _words(_mean(measured[truth]), _mean(cells[cell]), _mean(rows), noise)
    return sentences


def _noise(model: str, measured: Mapping[Cell, Sequence[Compared]]) -> float:
    """Mean KL in nats below which nothing is told apart: that of the reference from itself, and never less than rounding."""
    own = [_mean(rows) for cell, rows in measured.items() if cell.candidate.startswith(OWN) and cell.model == model]
    return max([ROUNDING, *(OWN_FACTOR * value for value in own if value is not None)])


def as_json(measured: Mapping[Cell, Sequence[Compared]]) -> list[ReferenceErrors]:
    """The reference against itself and the witness against the reference, metric by metric; or why not."""
    return [_row(cell, rows) for cell, rows in measured.items() if not cell.candidate.startswith(f"{WITNESS}/")]


def _row(cell: Cell, rows: Sequence[Compared]) -> ReferenceErrors:
    failure = next((row.failure.text for row in rows if row.failure), "")
    names = dict.fromkeys(name for row in rows if row.comparison for name in [*row.comparison.names, *row.whole])
    return {
        "model": cell.model,
        "weights": cell.quantization,
        "mode": cell.mode,
        "run": cell.candidate.removeprefix(OWN),
        "metrics": {} if failure else {name: statistics for name in names if (statistics := _statistics(_values(rows, name)))},
        "failure": failure,
    }


def _values(rows: Sequence[Compared], name: str) -> list[np.ndarray]:
    return [values_of(row, name) for row in rows if row.comparison]


def _statistics(values: Sequence[np.ndarray]) -> Summary | None:
    """The summary, or nothing where nothing was measured."""
    try:
        return summarize(values, seed=0)
    except EngineError:
        return None


def names_of(planned: Plan) -> dict[str, Spec]:
    """How to call the engines of the yardsticks, and their specs."""
    jobs = {job.key: job for job in planned.jobs}
    return {cell.candidate_name: jobs[cell.pairs[0].candidate].spec for cell in planned.yardsticks if cell.pairs}


def _variants(opened: OpenContract, hellos: Mapping[str, Any]) -> Iterator[Variant]:
    """Settings that the reference's engine has and that should not matter, then its other builds."""
    contract = opened.contract
    spec, hello = spec_of(contract.reference, opened), hellos.get("reference")
    answered = hello if isinstance(hello, HelloResult) else None
    options = {option.name: option.type for option in catalog.find("engines", contract.reference.engine).options}
    for name in contract.error_bar.vary:
        if name == "decode":
            if answered is not None and "decode" in answered.modes:
                yield Variant("decode", spec, answered, mode="decode", free=False)
        elif (
            name in options
            and (changed_value := _alternative(name, contract.reference.options.get(name), options[name])) is not None
        ):
            # Threads that spin while they wait stand still where other programs use the cores.
            environment = {"OMP_WAIT_POLICY": "PASSIVE", **spec.environment} if name == "threads" else spec.environment
            changed = replace(spec, options={**spec.options, name: changed_value}, environment=environment)
            yield Variant(f"{name} {changed_value}", changed, answered)
    for key, build in further_specs(opened).items():
        if key.startswith(OWN):
            hello = hellos.get(key)
            yield Variant(key.removeprefix(OWN), build, hello if isinstance(hello, HelloResult) else None)


def _alternative(name: str, current: Any, kind: str) -> Any:
    """Another value of a setting that should not matter, or None where the engine has no other."""
    if name == "threads":
        return 2 if current == 1 else 1
    if "'eager'" in kind and "'sdpa'" in kind:
        return "eager" if current == "sdpa" else "sdpa"
    return None


def _by_truth(contract: Contract, cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """Cells by model and by the label of the weights that the reference reads for them."""
    by_truth: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if not cell.is_between and not cell.against:
            by_truth.setdefault((cell.model, label_read(contract, cell.quantization)), []).append(cell)
    return by_truth


def _one_of_each(cells: Sequence[Cell], variant: Variant) -> Iterator[Cell]:
    """A cell that is teacher-forced and, where the variant can continue freely, one that is free-running."""
    kinds = (PAIRED, (FREE,)) if variant.free else (PAIRED,)
    for modes in kinds:
        if fitting := next((cell for cell in cells if cell.mode in modes), None):
            yield fitting


def _yardstick(
    variant: Variant, cell: Cell, model: str, label: str, jobs: dict[str, Job], planned: Plan, prompts: int | None
) -> Cell:
    mode = FREE if cell.mode == FREE else variant.mode
    facts, pairs = engine_facts(variant.spec), []
    for pair in cell.pairs:
        if prompts is not None and pair.prompt_idx >= prompts:
            continue
        first = jobs[pair.reference]
        if variant.mode == "decode" and crosses(pair, jobs):
            continue  # of such a prompt the reference's decode and its prefill are two functions
        after = pair.source if first.kind == "generate" else first.after
        job = make_job(
            variant.spec, variant.hello, planned.models, first.model, first.config, first.kind, _mode(mode, first),
            first.prompt, first.max_new_tokens, after, first.routing, facts,
        )  # fmt: skip
        jobs.setdefault(job.key, replace(job, is_kept=True))
        pairs.append(replace(pair, candidate=job.key, tokenized=None))
    name = f"{OWN}{variant.name}"
    return Cell(name, model, label, mode, cell.isa, cell.reference_name, f"reference ({variant.name})", tuple(pairs))


def _mode(mode: str, first: Job) -> str:
    """The mode of a run that is compared with `first`: its own, where that is the decode of a prompt that crosses."""
    return first.mode if first.kind == "score" and mode == "prefill" else mode


def _witness(
    opened: OpenContract, planned: Plan, hellos: Mapping[str, Any], cells: Sequence[Cell], model: str, jobs: dict[str, Job]
) -> list[Cell]:
    """The witness against the reference, then every candidate against the witness."""
    use = opened.contract.witness
    # The witness scores in one pass, which is another function than the decode of a model whose rows depend on the pass.
    scored = [cell for cell in cells if cell.mode in PAIRED]
    forced = [cell for cell in scored if {jobs[pair.reference].mode for pair in cell.pairs} == {"prefill"}]
    if use is None or not forced:
        return []
    files = opened.contract.models[model]
    if use.weights not in files:
        raise ContractError(
            f"the witness reads {use.weights!r}, which the model {model!r} does not have",
            where=opened.where("witness", "weights"),
            remedy=f"name one of {', '.join(files)}",
        )
    path = path_of(opened, model, use.weights)
    hello = hellos.get(WITNESS)
    spec, answered, keys = spec_of(use, opened), hello if isinstance(hello, HelloResult) else None, {}
    facts = engine_facts(spec)
    for pair in forced[0].pairs:
        first = jobs[pair.reference]
        job = make_job(
            spec, answered, planned.models, path, first.config, "score", "prefill", first.prompt, 0, first.after, engine=facts
        )
        jobs.setdefault(job.key, replace(job, is_kept=True))
        keys[pair.suite, pair.prompt_idx] = job.key
    name = f"{WITNESS} ({use.engine})"
    own = tuple(replace(pair, candidate=keys[pair.suite, pair.prompt_idx], tokenized=None) for pair in forced[0].pairs)
    truth = label_read(opened.contract, forced[0].quantization)
    witnessed = [replace(forced[0], candidate=WITNESS, quantization=truth, mode="prefill", candidate_name=name, pairs=own)]
    for cell in forced:
        pairs = tuple(replace(pair, reference=keys[pair.suite, pair.prompt_idx], tokenized=None) for pair in cell.pairs)
        witnessed.append(replace(cell, candidate=f"{WITNESS}/{cell.candidate}", reference_name=name, pairs=pairs))
    return witnessed


def _measures(yardstick: Cell, cell: Cell, contract: Contract) -> bool:
    same = (yardstick.model, yardstick.quantization) == (cell.model, label_read(contract, cell.quantization))
    return same and not cell.is_between and not cell.against and (yardstick.mode == FREE) == (cell.mode == FREE)


def _mean(rows: Sequence[Compared]) -> float | None:
    """Mean KL over every position in nats; None where a prompt failed."""
    if any(row.failure for row in rows):
        return None
    statistics = _statistics(_values(rows, METRIC))
    return statistics["mean"] if statistics else None


def _words(apart: float | None, to_reference: float | None, to_witness: float | None, noise: float) -> str:
    """`apart` is from witness to reference, the others from candidate to reference and to witness; mean KL in nats.

    What lies within `noise` is agreement, and says nothing about who is right.
    """
    if apart is None or to_reference is None or to_witness is None:
        return "the witness could not be asked"
    sides = f"witness to reference {apart:.2g}, candidate to reference {to_reference:.2g}, to witness {to_witness:.2g}"
    figures = f"mean KL in nats: {sides}"
    if max(apart, to_reference, to_witness) <= noise:
        return f"reference, witness and candidate agree within rounding ({figures})"
    if apart > noise and to_reference > noise and to_witness < AGREES * to_reference and apart > AGREES * to_reference:
        return f"the candidate agrees with the witness and not with the reference: suspect the reference ({figures})"
    if min(apart, to_witness) > noise and to_reference < AGREES * to_witness and apart > AGREES * to_witness:
        return f"reference and candidate agree, the witness stands apart from both ({figures})"
    if apart > noise and apart > max(to_reference, to_witness):
        reason = "reference and witness disagree more than the candidate does with either, so the reference proves little"
        return f"{reason} ({figures})"
    if apart < AGREES * to_reference:
        return f"reference and witness agree, the candidate stands apart from both ({figures})"
    return f"the three are about as far from each other ({figures})"
