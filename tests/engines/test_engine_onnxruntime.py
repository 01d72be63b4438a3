"""ONNX Runtime with graphs of transformers' own exporter, beside transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
from against_reference import ALONE, ZOO, beside, greedy_is_what_it_scores, needs

from logitproof.conformance.conformance import conformance
from logitproof.jobs.address import parse_address
from logitproof.jobs.worker import Spec, Worker

pytestmark = needs("onnxruntime")


@pytest.mark.parametrize("family", ["llama3", "qwen2.5", "qwen3", "qwen3-moe"])
def test_prompt_cache_and_continuation_are_the_reference_s(family: str, tmp_path: Path) -> None:
    with Worker(Spec("onnxruntime", {}, ALONE), name="onnxruntime") as worker:
        loaded = worker.load(ZOO / family, None)
        assert loaded.details["environment"] and Path(loaded.details["export"]).is_dir()
        found = beside(worker, family, tmp_path)
        assert set(found) == {"prefill", "decode"}
        assert all(one.kl_divergence_mean < 1e-9 and one.top1 == 1.0 for one in found.values()), found
        greedy_is_what_it_scores(worker, family, tmp_path)


def test_it_keeps_every_rule_of_the_protocol() -> None:
    report = conformance(parse_address(f"onnxruntime:{ZOO / 'qwen3'}"), timeout=600)
    assert [(row.rule, row.said) for row in report.failed] == []
