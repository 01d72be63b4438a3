"""Bugs of the mechanisms of 2026: a probe kills each by ten bands, and the model is as before."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from logitproof import catalog
from logitproof.acid.probe import KILLED_AT, open_probes

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
OLDER = frozenset((ROOT / "tests" / "unit" / "mutation_ids.txt").read_text("utf-8").split())
NEW = {name: entry for name, entry in catalog.entries("mutations").items() if name not in OLDER}
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
