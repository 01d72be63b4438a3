"""`sensitivity` on a published model: a tied embedding, rows that are no whole blocks of K-quants, 30 layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from logitproof.sensitivity.measure import Bench, Unit, units_of
from logitproof.sensitivity.subject import Subject

TEXT = (Path(__file__).parents[2] / "zoo/corpus/en-1.txt").read_text("utf-8")


def test_of_a_published_model_what_is_shared_changes_nothing_and_the_whole_costs_most(smollm2: Path) -> None:
    subject = Subject(smollm2)
    bench = Bench(subject, subject.fed(TEXT, 2, 8), None, {})
    units = {
        (unit.group, unit.name, unit.but): (unit, kinds) for unit, kinds in units_of(subject.tensors, ["Q4_K"], all_but=True)
    }
    assert len(subject.tensors) == 211
    whole = bench.cost(*units["all", "", False])
    last = bench.cost(*units["tensor", "blk.29.ffn_down.weight", False])
    kind = bench.cost(*units["kind", "ffn_down", False])
    rest = bench.cost(*units["tensor", "blk.29.ffn_down.weight", True])
    assert 0 < last.mean < kind.mean < whole.mean
    assert rest.mean < whole.mean
    # from the beginning, with nothing kept
    kinds = units["tensor", "blk.29.ffn_down.weight", True][1]
    subject.plant(kinds)
    sums, _ = bench._divergence(subject.run(bench.fed, subject.boundaries()), Unit("tensor", "", "Q4_K"))
    assert sums == pytest.approx(rest.sums, rel=1e-6)
