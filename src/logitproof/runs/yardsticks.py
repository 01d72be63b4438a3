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
from logitproof.contract.contract import Contract, EngineUse, Gate, Mode, OpenContract
from logitproof.errors import ContractError, EngineError
from logitproof.jobs.cell import Cell
from logitproof.jobs.job import Job, make_job
from logitproof.jobs.plan import Plan
from logitproof.jobs.sides import label_read, path_of
from logitproof.jobs.specs import spec_of
from logitproof.jobs.worker import Spec
from logitproof.protocol.messages import HelloResult
from logitproof.report.record import ReferenceErrors
from logitproof.verdict.case import OwnError
from logitproof.verdict.compared import Compared
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
                yardsticks.append(_yardstick(variant, cell, model, label, jobs, planned, opened.contract.error_bar.prompts))
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
    found: dict[str, dict[str, OwnError]] = {}
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
                found.setdefault(cell.id, {})[gate.id] = OwnError(value, run.candidate.removeprefix(OWN))
    return found


def _value(pair: tuple[float, Cell]) -> float:
    return pair[0]


def _own_value(gate: Gate, rows: Sequence[Compared]) -> float | None:
    """What a gate would observe in one run of the reference, or None where it measures nothing there."""
    statistics = _statistics(gate_values(gate, rows))
    return statistics[gate.statistic] if statistics else None


def witness_words(cells: Mapping[Cell, Sequence[Compared]], measured: Mapping[Cell, Sequence[Compared]]) -> dict[str, str]:
    """By cell: what a second engine says about reference and candidate, in words."""
    found: dict[str, str] = {}
    for yardstick, rows in measured.items():
        if not yardstick.candidate.startswith(f"{WITNESS}/"):
            continue
        name = yardstick.candidate.removeprefix(f"{WITNESS}/")
        cell = next(
            (one for one in cells if one.id == f"{name}/{yardstick.model}/{yardstick.quantization}/{yardstick.mode}"), None
        )
        truth = next((one for one in measured if one.candidate == WITNESS and one.model == yardstick.model), None)
        if cell is not None and truth is not None:
            noise = _noise(cell.model, measured)
            found[cell.id] = _words(_mean(measured[truth]), _mean(cells[cell]), _mean(rows), noise)
    return found


def _noise(model: str, measured: Mapping[Cell, Sequence[Compared]]) -> float:
    """Mean KL in nats below which nothing is told apart: that of the reference from itself, and never less than rounding."""
    own = [_mean(rows) for cell, rows in measured.items() if cell.candidate.startswith(OWN) and cell.model == model]
    return max([ROUNDING, *(OWN_FACTOR * value for value in own if value is not None)])


def as_json(measured: Mapping[Cell, Sequence[Compared]]) -> list[ReferenceErrors]:
    """The reference against itself and the witness against the reference, metric by metric; or why not."""
    return [_row(cell, rows) for cell, rows in measured.items() if not cell.candidate.startswith(f"{WITNESS}/")]


def _row(cell: Cell, rows: Sequence[Compared]) -> ReferenceErrors:
    failure = next((row.failure.text for row in rows if row.failure), "")
    names = dict.fromkeys(name for row in rows if row.comparison for name in [*row.comparison.metrics, *row.whole])
    return {
        "model": cell.model,
        "weights": cell.quantization,
        "mode": cell.mode,
        "run": cell.candidate.removeprefix(OWN),
        "metrics": {} if failure else {name: said for name in names if (said := _statistics(_values(rows, name)))},
        "failure": failure,
    }


def _values(rows: Sequence[Compared], name: str) -> list[np.ndarray]:
    values = [row.whole[name] if name in row.whole else row.comparison.metrics[name] for row in rows if row.comparison]
    return [np.atleast_1d(np.asarray(one, np.float64)) for one in values]


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
    said = hello if isinstance(hello, HelloResult) else None
    options = {option.name: option.type for option in catalog.find("engines", contract.reference.engine).options}
    for name in contract.error_bar.vary:
        if name == "decode":
            if said is not None and "decode" in said.modes:
                yield Variant("decode", spec, said, mode="decode", free=False)
        elif name in options and (other := _other(name, contract.reference.options.get(name), options[name])) is not None:
            # Threads that spin while they wait stand still where other programs use the cores.
            environment = {"OMP_WAIT_POLICY": "PASSIVE", **spec.environment} if name == "threads" else spec.environment
            changed = replace(spec, options={**spec.options, name: other}, environment=environment)
            yield Variant(f"{name} {other}", changed, said)
    for key, build in further_specs(opened).items():
        if key.startswith(OWN):
            hello = hellos.get(key)
            yield Variant(key.removeprefix(OWN), build, hello if isinstance(hello, HelloResult) else None)


def _other(name: str, current: Any, kind: str) -> Any:
    """Another value of a setting that should not matter, or None where the engine has no other."""
    if name == "threads":
        return 2 if current == 1 else 1
    if "'eager'" in kind and "'sdpa'" in kind:
        return "eager" if current == "sdpa" else "sdpa"
    return None


def _by_truth(contract: Contract, cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """Cells by model and by the label of the weights that the reference reads for them."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in (one for one in cells if not one.is_between and not one.against):
        found.setdefault((cell.model, label_read(contract, cell.quantization)), []).append(cell)
    return found


def _one_of_each(cells: Sequence[Cell], variant: Variant) -> Iterator[Cell]:
    """A cell that is teacher-forced and, where the variant can continue freely, one that is free-running."""
    kinds = (PAIRED, (FREE,)) if variant.free else (PAIRED,)
    for modes in kinds:
        if cell := next((one for one in cells if one.mode in modes), None):
            yield cell


def _yardstick(
    variant: Variant, cell: Cell, model: str, label: str, jobs: dict[str, Job], planned: Plan, prompts: int | None
) -> Cell:
    mode = FREE if cell.mode == FREE else variant.mode
    pairs = []
    for pair in cell.pairs:
        if prompts is not None and pair.prompt_idx >= prompts:
            continue
        first = jobs[pair.reference]
        after = pair.source if first.kind == "generate" else first.after
        job = make_job(
            variant.spec, variant.hello, planned.models, first.model, first.config, first.kind, mode, first.prompt,
            first.max_new_tokens, after,
        )  # fmt: skip
        jobs.setdefault(job.key, replace(job, is_kept=True))
        pairs.append(replace(pair, candidate=job.key, tokenized=None))
    name = f"{OWN}{variant.name}"
    return Cell(name, model, label, mode, cell.isa, cell.reference_name, f"reference ({variant.name})", tuple(pairs))


def _witness(
    opened: OpenContract, planned: Plan, hellos: Mapping[str, Any], cells: Sequence[Cell], model: str, jobs: dict[str, Job]
) -> list[Cell]:
    """The witness against the reference, then every candidate against the witness."""
    use = opened.contract.witness
    forced = [cell for cell in cells if cell.mode in PAIRED]
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
    spec, said, keys = spec_of(use, opened), hello if isinstance(hello, HelloResult) else None, {}
    for pair in forced[0].pairs:
        first = jobs[pair.reference]
        job = make_job(spec, said, planned.models, path, first.config, "score", "prefill", first.prompt, 0, first.after)
        jobs.setdefault(job.key, replace(job, is_kept=True))
        keys[pair.suite, pair.prompt_idx] = job.key
    name = f"{WITNESS} ({use.engine})"
    own = tuple(replace(pair, candidate=keys[pair.suite, pair.prompt_idx], tokenized=None) for pair in forced[0].pairs)
    truth = label_read(opened.contract, forced[0].quantization)
    found = [replace(forced[0], candidate=WITNESS, quantization=truth, mode="prefill", candidate_name=name, pairs=own)]
    for cell in forced:
        pairs = tuple(replace(pair, reference=keys[pair.suite, pair.prompt_idx], tokenized=None) for pair in cell.pairs)
        found.append(replace(cell, candidate=f"{WITNESS}/{cell.candidate}", reference_name=name, pairs=pairs))
    return found


def _measures(yardstick: Cell, cell: Cell, contract: Contract) -> bool:
    same = (yardstick.model, yardstick.quantization) == (cell.model, label_read(contract, cell.quantization))
    return same and not cell.is_between and not cell.against and (yardstick.mode == FREE) == (cell.mode == FREE)


def _mean(rows: Sequence[Compared]) -> float | None:
    """Mean KL over every position in nats; None where a prompt failed."""
    if any(row.failure for row in rows):
        return None
    statistics = _statistics(_values(rows, METRIC))
    return statistics["mean"] if statistics else None


def _words(apart: float | None, ours: float | None, theirs: float | None, noise: float) -> str:
    """`apart` is witness to reference, `ours` candidate to reference, `theirs` candidate to witness; mean KL in nats.

    What lies within `noise` is agreement, and says nothing about who is right.
    """
    if apart is None or ours is None or theirs is None:
        return "the witness could not be asked"
    said = f"mean KL in nats: witness to reference {apart:.2g}, candidate to reference {ours:.2g}, to witness {theirs:.2g}"
    if max(apart, ours, theirs) <= noise:
        return f"reference, witness and candidate agree within rounding ({said})"
    if apart > noise and ours > noise and theirs < AGREES * ours and apart > AGREES * ours:
        return f"the candidate agrees with the witness and not with the reference: suspect the reference ({said})"
    if apart > noise and theirs > noise and ours < AGREES * theirs and apart > AGREES * theirs:
        return f"reference and candidate agree, the witness stands apart from both ({said})"
    if apart > noise and apart > max(ours, theirs):
        return (
            f"reference and witness disagree more than the candidate does with either, so the reference proves little ({said})"
        )
    if apart < AGREES * ours:
        return f"reference and witness agree, the candidate stands apart from both ({said})"
    return f"the three are about as far from each other ({said})"
