"""Completions drawn by two engines for the same prompts, and the test of their equality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from logitproof.contract.opened import OpenContract
from logitproof.contract.suite import Prompt
from logitproof.errors import LogitproofError, Missing
from logitproof.jobs.cell import Cell
from logitproof.jobs.session import open_side, opened, token_ids
from logitproof.jobs.sides import sides
from logitproof.jobs.spec import Side
from logitproof.jobs.specs import specs
from logitproof.jobs.worker import Worker
from logitproof.jobs.workers import Workers
from logitproof.protocol.sampler import Sampling
from logitproof.quality.replay import SamplerTests, replayed
from logitproof.quality.synchronized import Synchronized
from logitproof.quality.two_sample import TwoSample, two_sample

T = TypeVar("T")


@dataclass(frozen=True)
class Drawing:
    """How many completions a prompt, how long, how sampled, how many permutations judge them, and for how many prompts."""

    completions: int = 12
    max_new_tokens: int = 24
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))
    permutations: int = 500
    prompts: int = 12

    def spread(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """So many of the prompts, evenly spread: a hundred say little more about a sampler than ten."""
        count = min(self.prompts, len(prompts))
        return [prompts[number * len(prompts) // count] for number in range(count)]


def draw(
    worker: Worker, prompts: Sequence[Sequence[int]], stop: Sequence[int], drawing: Drawing, seed: int
) -> list[list[list[int]]]:
    """Completions of every prompt [prompts][completions][tokens]; each prompt has a seed of its own."""
    return [
        worker.sample(
            ids, drawing.completions, drawing.max_new_tokens, stop, replace(drawing.sampling, seed=seed * 100_003 + number)
        )
        for number, ids in enumerate(prompts)
    ]


def compared_sides(
    workers: Workers, reference: Side, candidate: Side, prompts: Sequence[Prompt], drawing: Drawing, seed: int = 0
) -> TwoSample:
    """Draw from both, with seeds that are independent, and test; both are fed the reference's token ids."""
    worker, loaded = opened(workers, reference)
    ids, stop = token_ids(worker, prompts, reference.spec), list(loaded.eos_token_ids)
    reference_samples = draw(worker, ids, stop, drawing, 2 * seed)
    candidate_samples = draw(open_side(workers, candidate), ids, stop, drawing, 2 * seed + 1)
    return two_sample(reference_samples, candidate_samples, permutations=drawing.permutations, seed=seed)


def replayed_side(workers: Workers, side: Side, prompts: Sequence[Prompt]) -> Synchronized | Missing:
    """The engine's own draws foretold from its own noise, or why they cannot be."""
    worker, loaded = opened(workers, side)
    return replayed(worker, loaded.details, token_ids(worker, prompts, side.spec))


def power(
    workers: Workers, side: Side, prompts: Sequence[Prompt], right: Drawing, wrong: Drawing, alpha: float, trials: int
) -> float:
    """Share of trials that tell the engine as it should sample from the engine as `wrong` has it."""
    worker, loaded = opened(workers, side)
    ids, stop = token_ids(worker, prompts, side.spec), list(loaded.eos_token_ids)
    seen = 0
    for trial in range(trials):
        right_samples = draw(worker, ids, stop, right, 7000 + 2 * trial)
        wrong_samples = draw(worker, ids, stop, wrong, 7001 + 2 * trial)
        seen += two_sample(right_samples, wrong_samples, permutations=right.permutations, seed=trial).differs(alpha)
    return seen / trials


def twice(test: Callable[[int], TwoSample], alpha: float = 0.05) -> TwoSample:
    """The test; where it rejects at `alpha`, the weaker of it and a second test on fresh draws.

    So equal engines are called different in alpha squared of all runs, not in alpha.
    """
    first = test(0)
    return max(first, test(1), key=lambda result: result.p_value) if first.differs(alpha) else first


def compared_candidates(
    contract: OpenContract,
    cells: Sequence[Cell],
    drawing: Drawing,
    on_progress: Callable[[str], None] = lambda text: None,
) -> dict[str, SamplerTests]:
    """The tests of every candidate, model and quantization of a run, or the reason why there is none."""
    tests: dict[str, SamplerTests] = {}
    started = specs(contract)
    prompts = drawing.spread([prompt for suite in contract.suites for prompt in suite.prompts])
    with Workers() as workers:
        hellos: Mapping[str, Any] = workers.hello(started)
        for cell in cells:
            key = f"{cell.candidate}/{cell.model}/{cell.quantization}"
            if key in tests:
                continue
            reference, candidate = sides(contract, cell)
            silent = [side.name for side in (reference, candidate) if not getattr(hellos[side.name], "sample", False)]
            if silent:
                tests[key] = SamplerTests(*2 * [Missing(f"the engine of {silent[0]} does not sample")])
                continue
            on_progress(f"drawing completions: {key}")
            test = _or_why(lambda: twice(lambda seed: compared_sides(workers, reference, candidate, prompts, drawing, seed)))  # noqa: B023
            tests[key] = SamplerTests(test, _or_why(lambda: replayed_side(workers, candidate, prompts)))  # noqa: B023
    return tests


def _or_why(measure: Callable[[], T]) -> T | Missing:
    try:
        return measure()
    except (LogitproofError, ValueError) as error:
        return Missing(str(error).partition("\n")[0])
