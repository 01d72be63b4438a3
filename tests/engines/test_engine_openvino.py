"""OpenVINO with models that optimum-intel exported, beside transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
from against_reference import ALONE, ZOO, beside, greedy_is_what_it_scores, needs

from logitproof.conformance.conformance import conformance
from logitproof.jobs.address import parse_address
from logitproof.jobs.worker import Spec, Worker

pytestmark = needs("openvino")


@pytest.mark.parametrize("family", ["llama3", "qwen2.5", "qwen3"])
def test_prompt_cache_and_continuation_are_the_reference_s(family: str, tmp_path: Path) -> None:
    with Worker(Spec("openvino", {}, ALONE), name="openvino") as worker:
        details = worker.load(ZOO / family, None).details
        assert (details["dtype"], details["kv_cache"]) == ("f32", "f32")
        assert sum(details["kernels"].values()) > 10
        found = beside(worker, family, tmp_path)
        assert set(found) == {"prefill", "decode"}
        assert all(one.kl_divergence_mean < 1e-9 and one.top1 == 1.0 for one in found.values()), found
        greedy_is_what_it_scores(worker, family, tmp_path)


def test_the_precision_that_it_reports_is_the_one_that_it_computes_in(tmp_path: Path) -> None:
    with Worker(Spec("openvino", {"precision": "bf16", "kv_precision": "u8"}, ALONE), name="openvino") as worker:
        details = worker.load(ZOO / "qwen3", None).details
        rounded = beside(worker, "qwen3", tmp_path)["prefill"].kl_divergence_mean > 1e-7
    assert details["kv_cache"] == "u8"
    assert (details["dtype"] == "bf16") == rounded


def test_it_keeps_every_rule_of_the_protocol() -> None:
    report = conformance(parse_address(f"openvino:{ZOO / 'qwen3'}"), timeout=600)
    assert [(row.rule, row.said) for row in report.failed] == []
