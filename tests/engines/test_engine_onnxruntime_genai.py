"""onnxruntime-genai with models of its own builder, beside transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
from against_reference import ALONE, ZOO, beside, greedy_is_what_it_scores, needs

from logitproof.conformance.conformance import conformance
from logitproof.errors import EngineError
from logitproof.jobs.address import parse_address
from logitproof.jobs.worker import Spec, Worker

pytestmark = needs("onnxruntime_genai")
SENTENCE = "The old captain said so."


@pytest.mark.parametrize("family", ["llama3", "qwen2.5", "qwen3"])
def test_prompt_cache_and_continuation_are_the_reference_s(family: str, tmp_path: Path) -> None:
    with Worker(Spec("onnxruntime_genai", {}, ALONE), name="genai") as worker:
        assert worker.load(ZOO / family, None).details["dtype"] == "fp32"
        found = beside(worker, family, tmp_path)
        assert set(found) == {"prefill", "decode"}
        assert all(one.kl_divergence_mean < 1e-9 and one.top1 == 1.0 for one in found.values()), found
        greedy_is_what_it_scores(worker, family, tmp_path)
        ids = worker.tokenize(SENTENCE)
        assert len(ids) > 2 and worker.detokenize(ids).endswith(SENTENCE)


def test_a_family_that_its_builder_does_not_know_is_told_in_the_builder_s_words() -> None:
    with Worker(Spec("onnxruntime_genai", {}, ALONE), name="genai") as worker:
        with pytest.raises(EngineError, match="not currently supported"):
            worker.load(ZOO / "qwen3-moe", None)
        assert worker.load(ZOO / "qwen3", None).vocab_size == 1540


def test_it_keeps_every_rule_of_the_protocol() -> None:
    report = conformance(parse_address(f"onnxruntime_genai:{ZOO / 'qwen3'}"), timeout=600)
    assert [(row.rule, row.said) for row in report.failed] == []
