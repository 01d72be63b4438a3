"""Bugs of the mechanisms of 2026: a probe kills each by ten bands, and the model is as before."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from logitproof import catalog
from logitproof.acid.probe import KILLED_AT, Probe, open_probes
from logitproof.contract.arithmetic import Arithmetic
from logitproof.reference.planted import ONLY_LAYER, Planted
from logitproof.reference.predict import Predictor
from logitproof.rows.distance import distances, rms

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
OLDER = frozenset((ROOT / "tests" / "unit" / "mutation_ids.txt").read_text("utf-8").split())
NEW = {
    name: entry
    for name, entry in catalog.entries("mutations").items()
    if name not in OLDER and entry.record.get("needs") != "adapter"
}
"""Without those of adapters, which no probe has: `test_adapters.py` plants them in PEFT's own model."""
KILLED = json.loads((ROOT / "benchmarks" / "results" / "families.json").read_text("utf-8"))["killed_by"]
OF_EACH_FILE = sorted({entry.file: name for name, entry in sorted(NEW.items())}.values())
"""One bug of every mechanism; all of them are the benchmark's."""


def test_every_new_bug_has_a_probe_that_kills_it() -> None:
    assert len(NEW) >= 60
    assert set(NEW) == set(KILLED)
    assert all(killed["bands"] is None or killed["bands"] >= KILLED_AT for killed in KILLED.values())


@pytest.mark.parametrize("name", OF_EACH_FILE)
def test_a_bug_of_each_mechanism_is_killed_and_gone_afterwards(name: str) -> None:
    from _acid_kill import Bench, variants

    bench = Bench(open_probes([KILLED[name]["probe"]])[0])
    before = {key: value.clone() for key, value in bench.model.state_dict().items()}
    applying = [mutation for _, mutation in variants(name) if mutation.applies(bench.model.config)]
    assert applying
    mutation = applying[0]
    assert bench.kill(mutation).ratio >= KILLED_AT
    assert all(torch.equal(value, before[key]) for key, value in bench.model.state_dict().items())


OTHER_NORMS = ("cohere2", "lfm2", "mamba2", "nemotron-h")
"""Probes whose norms in the last layer have another name or formula than the bug's."""


@pytest.mark.parametrize("probe", open_probes(), ids=lambda probe: probe.name)
def test_every_family_can_be_searched_for_bugs_layer_by_layer(probe: Probe) -> None:
    planted = Planted.opened(probe.folder, [list(probe.cases[0].token_ids)[:12]])
    (right,) = planted.logits()
    last = planted.layers - 1
    bugs = [("weights.layer_skipped", {"layer": last}), ("norm.eps_value", {"eps": 0.5, ONLY_LAYER: last})]
    has_eps = catalog.load("mutations", "norm.eps_value")().applies(planted.config)
    for bug in bugs if has_eps and probe.name not in OTHER_NORMS else bugs[:1]:
        (wrong,) = planted.logits([bug])
        assert np.abs(wrong - right).max() > 1e-3, bug
    (stepped,) = planted.logits(cached=True)
    assert np.abs(stepped - right).max() < 1e-2 * np.abs(right).max()
    assert np.array_equal(planted.logits()[0], right)


@pytest.mark.parametrize("probe", open_probes(), ids=lambda probe: probe.name)
def test_bands_are_calculated_of_every_family_around_its_true_logits(probe: Probe) -> None:
    case = probe.cases[0]
    predictor = Predictor(probe.folder)
    exact = predictor.exact(case.token_ids)
    held = exact[list(case.positions)].astype(np.float32)
    assert np.abs(held - case.expected).max() <= 1e-6 * np.abs(case.expected).max()
    noisy = predictor.noisy(case.token_ids, Arithmetic(), 0).logits
    coarser = predictor.noisy(case.token_ids, Arithmetic(base="bfloat16"), 0).logits
    assert 0 < rms(distances(exact, noisy)) < rms(distances(exact, coarser))


@pytest.mark.parametrize("name", ["kimi-linear", "qwen3-next", "qwen3.5-moe"])
def test_a_delta_rule_is_calculated_step_by_step_where_the_engine_goes_so(name: str) -> None:
    probe = open_probes([name])[0]
    ids, predictor = list(probe.case("short").token_ids), Predictor(probe.folder)
    exact = predictor.exact(ids)
    chunks, steps = (predictor.noisy(ids, Arithmetic(delta=delta), 0).logits for delta in ("chunks", "steps"))
    assert not np.array_equal(chunks, steps)
    assert max(rms(distances(exact, chunks)), rms(distances(exact, steps))) < 1e-4


def test_a_table_of_gelu_is_noise_where_a_family_has_gelu() -> None:
    for name, ratio in (("gemma", 10), ("qwen3", 1)):
        probe = open_probes([name])[0]
        ids, predictor = list(probe.cases[0].token_ids), Predictor(probe.folder)
        exact = predictor.exact(ids)
        plain, table = (
            rms(distances(exact, predictor.noisy(ids, Arithmetic(gelu=kind), 0).logits)) for kind in ("exact", "float16")
        )
        assert table >= ratio * plain and (ratio > 1 or table == plain)
