"""An engine that tells where its noise comes from draws again here, token by token, from its own logits.

`sampler_noise` in the details of its `load` names the generator. Then every token that it drew can be foretold, and a sampler
that is wrong in one step is caught by a handful of draws, where a test of distributions needs thousands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import Missing
from logitproof.jobs.worker import Worker
from logitproof.protocol.sampler import LOUD, ORDER, Sampling
from logitproof.quality.synchronized import NOTHING, Fault, Synchronized, expected_by_uniform, judged, reach
from logitproof.quality.two_sample import TwoSample

COUNT = 4
TOKENS = 16
PROMPTS = 4
SETTINGS = (Sampling(0.7, seed=7), *LOUD, ORDER)
"""The usual temperature, and the settings under which bugs are loud."""
LEAST_TIE = 1e-3
"""Logits: even an engine that gives the same row twice sums in float32 and orders near-equal tokens as it likes."""
MOST_TIE = 0.5
"""Logits: with a wider band the smallest bugs of samplers pass as ties, so nothing is said."""
SPREADS = 4
"""How many times its own rounding an engine's band is: another batch rounds otherwise than the one that was measured."""


@dataclass(frozen=True)
class Noise:
    """How an engine turns a seed into tokens: `numbers(seed, count, tokens)` gives the uniform ones [count, tokens]."""

    numbers: Callable[[int, int, int], np.ndarray]
    last: bool
    sorts: bool

    def by_rank(self, sampling: Sampling) -> bool:
        """Whether tokens stand best first when one is drawn: llama.cpp's filters leave them so, and only they."""
        return self.sorts and (sampling.top_k > 0 or sampling.top_p < 1.0)


def _pcg64(seed: int, count: int, tokens: int) -> np.ndarray:
    return np.random.default_rng(seed).random((tokens, count)).T


def _mt19937(seed: int, count: int, tokens: int) -> np.ndarray:
    """std::mt19937 of seed · 1000003 + number, two words a double, as std::generate_canonical takes them."""
    rows = []
    for number in range(count):
        random = np.random.RandomState((seed * 1_000_003 + number) % 2**32)
        words = random.randint(0, 2**32, (tokens, 2), np.uint32).astype(np.float64)
        rows.append((words[:, 0] + words[:, 1] * 2.0**32) / 2.0**64)
    return np.array(rows)


KNOWN = {
    "pcg64": Noise(_pcg64, last=False, sorts=False),
    "mt19937": Noise(_mt19937, last=True, sorts=True),
}
"""numpy's default generator, one number a step for each continuation in turn, tokens by id, temperature first; and
llama.cpp's, one generator a continuation, temperature last."""


@dataclass(frozen=True)
class SamplerTests:
    """What was found of an engine's own sampler, or why nothing was."""

    test: TwoSample | Missing
    replay: Synchronized | Missing


def replayed(worker: Worker, details: Mapping[str, Any], prompts: Sequence[Sequence[int]]) -> Synchronized | Missing:
    """Draw again what a loaded engine drew for a few prompts under every setting, or why that cannot be done.

    Its own rounding is measured, by the same tokens in one pass and one by one, and is the band.
    """
    noise = KNOWN.get(str(details.get("sampler_noise")))
    if noise is None:
        return Missing("the engine does not tell where its noise comes from")
    if not prompts:
        return Missing("there is no prompt to draw for")
    shortest, total = sorted(prompts, key=len)[:PROMPTS], NOTHING
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "logits.bin"
        # Rounding of quantized activations is nothing for most texts and a tenth of a logit for some.
        tie = max(_rounding(worker, prompt, file) for prompt in shortest)
        if tie > MOST_TIE:
            apart = f"{tie / SPREADS:.3g}"
            return Missing(f"one by one its own logits differ by {apart} from those in one pass: no noise can be told")
        for number, prompt in enumerate(shortest):
            for setting in SETTINGS:
                sampling = replace(setting, seed=setting.seed + 100 * number)
                total += _replayed(worker, noise, prompt, sampling, tie, file)
    return total


def _rounding(worker: Worker, prompt: Sequence[int], file: Path) -> float:
    """Several times the largest difference of a logit between one pass and one token at a time."""
    ids = [*prompt, *worker.sample(prompt, 1, TOKENS, [], SETTINGS[0])[0]]
    one_pass, one_by_one = (_rows(worker, ids, 1, file, mode) for mode in ("prefill", "decode"))
    return max(LEAST_TIE, SPREADS * float(np.abs(one_pass - one_by_one).max()))


def _replayed(worker: Worker, noise: Noise, prompt: Sequence[int], sampling: Sampling, tie: float, file: Path) -> Synchronized:
    drawn = worker.sample(prompt, COUNT, TOKENS, [], sampling)
    numbers = noise.numbers(sampling.seed, COUNT, TOKENS)
    total = NOTHING
    for tokens, uniform in zip(drawn, numbers, strict=True):
        ids = [*prompt, *tokens]
        total += _foretold(_rows(worker, ids[:-1], len(prompt), file, "prefill"), ids, uniform, noise, sampling, tie)
    return total


def _foretold(
    rows: np.ndarray, ids: Sequence[int], numbers: np.ndarray, noise: Noise, sampling: Sampling, tie: float
) -> Synchronized:
    """The last tokens of `ids` against the rows [N, V] and numbers [N] that they were drawn from."""
    by_rank, total, start = noise.by_rank(sampling), NOTHING, len(ids) - len(rows)
    for step, row in enumerate(rows):
        seen, token, u = ids[: start + step], ids[start + step], float(numbers[step])
        expected = expected_by_uniform(row, seen, sampling, u, by_rank=by_rank, last=noise.last)
        may = expected == token or reach(row, seen, sampling, tie, last=noise.last).by_uniform(u, token, by_rank=by_rank)
        total += judged(Fault(_shown(sampling), step, expected, token), may)
    return total


def _rows(worker: Worker, ids: Sequence[int], start: int, file: Path, mode: Any) -> np.ndarray:
    """Logits [tokens, V] that each new token was drawn from."""
    return np.array(worker.score(ids, mode, file).logits.open())[start - 1 :]


def _shown(sampling: Sampling) -> str:
    plain = Sampling()
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    return " ".join(f"{name} {getattr(sampling, name):g}" for name in names if getattr(sampling, name) != getattr(plain, name))
