"""The kill matrix: every known bug in every probe that can have it, beside what lesser tests would have seen."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
import transformers

from logitproof import catalog
from logitproof.acid.probe import KILLED_AT, Case, Probe, open_probes, probe_names
from logitproof.acid.sampling import DRAWN_FROM, allowed, apart, place
from logitproof.protocol.sampler import LOUD, ORDER, probabilities
from logitproof.reference.cache import through_cache
from logitproof.reference.parts import of_any_layer

OPTIONS: dict[str, Any] = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": torch.float32}
GREEDY = 24
"""New tokens of the test that only reads greedy text."""
CHUNK = 7


@dataclasses.dataclass(frozen=True)
class Kill:
    """One bug in one probe: distance over band at its largest, what showed it, and which lesser tests would have."""

    ratio: float
    by: str
    greedy_text: bool = False
    cosine: bool = False
    short_prompts: bool = False
    prefill: bool = False


class Bench:
    """A probe's model and what it gives when nothing is wrong."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.model = transformers.AutoModelForCausalLM.from_pretrained(probe.folder, trust_remote_code=False, **OPTIONS).eval()
        of_any_layer(self.model.config)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(probe.folder, trust_remote_code=False)
        self.greedy = self._continuations()

    def kill(self, mutation: Any) -> Kill:
        """Every test of the acid run in turn, until one kills; a bug that none kills has its largest ratio."""
        if mutation.needs == "tokenizer":
            wrong = [
                text for text in self.probe.texts if mutation.tokens(text.token_ids, self.tokenizer) != list(text.token_ids)
            ]
            return Kill(np.inf if wrong else 0.0, "tokens")
        if mutation.needs == "sampling" and self.probe.name not in DRAWN_FROM:
            return Kill(0.0, "not drawn from")
        if mutation.needs == "sampling":
            return self._sampling(mutation)
        with torch.inference_mode(), mutation.applied_to(self.model):
            tested = [self._test(name, run) for name, run in RUNS.items() if name == "prefill"]
            logits = [_prefill(self.model, case) for case in self.probe.cases]
            lesser = {
                "greedy_text": self._continuations() != self.greedy,
                "cosine": min(_cosine(case, rows) for case, rows in zip(self.probe.cases, logits, strict=True)) <= 0.99,
                "short_prompts": _ratio(self.probe.case("short"), logits[0]) >= KILLED_AT,
                "prefill": tested[0][0] >= KILLED_AT,
            }
            for name, run in RUNS.items():
                if name != "prefill" and max(tested)[0] < KILLED_AT:
                    tested.append(self._test(name, run))
        ratio, by = max(tested)
        return Kill(ratio, by, **lesser)

    def _test(self, name: str, run: Callable[[Any, Case], np.ndarray]) -> tuple[float, str]:
        return max((_ratio(case, run(self.model, case)), f"{name} {case.name}") for case in self.probe.cases)

    def _continuations(self) -> list[list[int]]:
        """Greedy continuations of the beginnings of three sequences, through the cache."""
        made = []
        with torch.inference_mode():
            for case in self.probe.cases[:3]:
                ids, cache, new = torch.tensor([case.token_ids[:16]]), None, []
                for _ in range(GREEDY):
                    out, cache = through_cache(self.model, ids, cache)
                    row = out.logits[0, -1]
                    new.append(int(row.argmax()) if bool(torch.isfinite(row).all()) else -1)
                    ids = torch.tensor([[max(new[-1], 0)]])
                made.append(new)
        return made

    def _sampling(self, mutation: Any) -> Kill:
        """Total variation over what chance allows, at the position that the acid run draws from.

        Draws have no band: what chance allows stands for ten of them.
        """
        context, logits = place(self.probe)
        ratios = []
        # the order of temperature and top-p is told and fails nothing: a bug of it is seen where it is told
        for setting in (*LOUD, ORDER):
            right = probabilities(logits, context, setting)
            # chance works both ways, so a bug has to pass the limit by half of it
            ratios.append(apart(mutation.drawn_from(logits, context, setting), right) / (1.5 * allowed(right)))
        return Kill(KILLED_AT * max(ratios), "draws")


def variants(name: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """The mutation with its default parameters and with every other value of its grid, one at a time."""
    kind = catalog.load("mutations", name)
    yield {}, kind()
    for option, values in kind.grid.items():
        for value in values:
            if value != getattr(kind, option, None):
                yield {option: value}, kind(**{option: value})


def measure(only: str = "", probes: list[str] | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Counts, the matrix and the lesser tests, over all mutations whose name begins with `only`."""
    names = [name for name in catalog.entries("mutations") if name.startswith(only)]
    equivalent = [name for name in names if catalog.load("mutations", name).equivalent]
    judged = [name for name in names if name not in equivalent]
    kills: dict[str, dict[str, Kill]] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")) as pool:
        chosen = probes or probe_names()
        for probe, found in zip(chosen, pool.map(kills_of, chosen, [judged] * len(chosen)), strict=True):
            say(f"{probe}: {len(found)} bugs, {sum(one.ratio >= KILLED_AT for one in found.values())} killed")
            for variant, kill in found.items():
                kills.setdefault(variant, {})[probe] = kill
    return {"mutations": len(names), "equivalent": len(equivalent), **summary(judged, kills)}


def kills_of(probe: str, names: list[str]) -> dict[str, Kill]:
    """Every bug that can be in the probe, with every value of its grid."""
    torch.set_num_threads(1)
    bench, found = Bench(open_probes([probe])[0]), {}
    for name in names:
        for options, mutation in variants(name):
            if mutation.applies(bench.model.config):
                label = ", ".join(f"{key}={value}" for key, value in options.items())
                found[f"{name}({label})" if label else name] = bench.kill(mutation)
    return found


def summary(judged: list[str], kills: dict[str, dict[str, Kill]]) -> dict[str, Any]:
    """A bug is killed where some probe kills it, with each of its values that can be in any probe."""
    survivors = {variant: row for variant, row in kills.items() if max(kill.ratio for kill in row.values()) < KILLED_AT}
    reached = {variant.partition("(")[0] for variant in kills}
    alive = {variant.partition("(")[0] for variant in survivors} | (set(judged) - reached)
    lesser = {
        test: sum(all(any(getattr(kill, test) for kill in row.values()) for row in rows) for rows in _by_name(kills).values())
        for test in ("greedy_text", "cosine", "short_prompts", "prefill")
    }
    return {
        "killed": len(judged) - len(alive),
        "variants": len(kills),
        "variants_killed": len(kills) - len(survivors),
        "killed_by_lesser_tests": lesser,
        "survivors": {
            name: {probe: _short(kill.ratio) for probe, kill in row.items()} for name, row in sorted(survivors.items())
        },
        "in_no_probe": sorted(set(judged) - reached),
        "matrix": {
            name: {probe: f"{kill.ratio:.3g} by {kill.by}" for probe, kill in row.items()}
            for name, row in sorted(kills.items())
        },
    }


def _by_name(kills: dict[str, dict[str, Kill]]) -> dict[str, list[dict[str, Kill]]]:
    rows: dict[str, list[dict[str, Kill]]] = {}
    for variant, row in kills.items():
        rows.setdefault(variant.partition("(")[0], []).append(row)
    return rows


def _prefill(model: Any, case: Case) -> np.ndarray:
    return _numpy(model(torch.tensor([case.token_ids]), use_cache=False).logits)


def _in_pieces(model: Any, case: Case, size: int) -> np.ndarray:
    cache, rows = None, []
    for part in torch.tensor([case.token_ids]).split(size, dim=1):
        out, cache = through_cache(model, part, cache)
        rows.append(_numpy(out.logits))
    return np.concatenate(rows)


RUNS: dict[str, Callable[[Any, Case], np.ndarray]] = {
    "prefill": _prefill,
    "chunked": lambda model, case: _in_pieces(model, case, CHUNK),
    "decode": lambda model, case: _in_pieces(model, case, 1),
}


def _numpy(logits: torch.Tensor) -> np.ndarray:
    return np.asarray(logits[0].detach().float().numpy())


def _ratio(case: Case, logits: np.ndarray) -> float:
    return float(case.distances(logits).max() / case.band["float32"])


def _cosine(case: Case, logits: np.ndarray) -> float:
    """The least cosine of a row with the expected one; -1 where a logit is no number."""
    rows = logits[list(case.positions)].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        cosines = (rows * case.expected).sum(-1) / np.linalg.norm(rows, axis=-1) / np.linalg.norm(case.expected, axis=-1)
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def _short(value: float) -> float | None:
    """Three digits; null where the bug gives no finite number."""
    return float(f"{value:.3g}") if np.isfinite(value) else None
