"""What an acid run says and how it ends, without any engine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from logitproof.acid.acid import inside_coarser, judged, measure
from logitproof.acid.probe import Case, open_probes
from logitproof.acid.row import AcidReport, Measured, Row
from logitproof.acid.sampling import DRAWS, allowed, apart, place
from logitproof.acid.subject import Subject
from logitproof.acid.text import answer, document, verdict
from logitproof.documents import console
from logitproof.protocol.messages import LoadResult
from logitproof.protocol.precision import coarsest
from logitproof.protocol.sampler import LOUD, ORDER, probabilities, scaled_last

CASE = Case("text", (1, 2, 3), (0, 2), np.arange(10, dtype=np.float32).reshape(2, 5), {"float32": 1e-3})


def report(*statuses: str) -> AcidReport:
    rows = tuple(Row(f"row {number}", "probe", status) for number, status in enumerate(statuses))  # type: ignore[arg-type]
    return AcidReport("engine", {}, {}, "folder", rows, 1.0)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (("PASS", "NOT-MEASURED"), 0),
        (("PASS", "FAIL"), 1),
        (("FAIL", "ERROR"), 1),
        (("PASS", "ERROR"), 3),
        (("NOT-MEASURED",), 3),
        ((), 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst_row_and_nothing_is_not_right(statuses: tuple[str, ...], code: int) -> None:
    assert report(*statuses).exit_code == code


def test_a_position_that_no_logits_are_known_of_does_not_count() -> None:
    logits = np.zeros((3, 5), np.float32)
    logits[[0, 2]] = CASE.expected + 7
    logits[1] = 1000
    assert measure(CASE, logits, "prefill", 1e-3).held


def test_the_worst_position_is_the_one_in_the_sequence() -> None:
    logits = np.zeros((3, 5), np.float32)
    logits[[0, 2]] = CASE.expected
    logits[2, 1] += 1
    found = measure(CASE, logits, "decode", 1e-3)
    assert (found.position, found.held) == (2, False)
    assert found.distance == pytest.approx(0.4)


def test_a_nan_is_out_of_every_band() -> None:
    logits = np.full((3, 5), np.nan, np.float32)
    found = measure(CASE, logits, "prefill", 1e9)
    assert math.isinf(found.distance) and not found.held
    assert judged("p", [found], "float32").status == "FAIL"
    assert '"distance": null' in answer(AcidReport("e", {}, {}, "F32", (judged("p", [found], "float32"),), 1.0)).text()


def test_a_precision_without_a_band_is_not_measured() -> None:
    row = judged("p", [Measured("text", "prefill", 0.0, 0, None)], "float16")
    assert row.status == "NOT-MEASURED" and "no band for float16" in row.reason


def test_what_is_only_the_noise_of_another_arithmetic_is_said() -> None:
    probe = open_probes(["qwen3"])[0]
    quiet = [Measured(case.name, "prefill", 0.5 * case.band["bfloat16"], 0, case.band["float32"]) for case in probe.cases]
    loud = [Measured(case.name, "prefill", 2.0 * case.band["bfloat16"], 0, case.band["float32"]) for case in probe.cases]
    assert inside_coarser(probe, quiet, "float32") == "bfloat16"
    assert inside_coarser(probe, loud, "float32") == ""


def test_the_coarsest_of_several_counts() -> None:
    assert coarsest(["float32", "bfloat16", "float16"]) == "bfloat16"
    assert coarsest([]) == "float32"


def test_what_an_engine_says_cannot_break_the_line() -> None:
    row = Row("p", "probe", "ERROR", "bad\x1b[31m\nnews", diagnosis="first\nsecond\x07")
    shown = console.text(document(AcidReport("e", {}, {}, "F32", (row,), 1.0)))
    assert [line.strip() for line in shown.splitlines()[3:6]] == [
        "ERROR  p      bad\\u001b[31m\\nnews",
        "first",
        "second\\u0007",
    ]
    assert "nothing was measured" in verdict(report("ERROR")).reason


def test_honest_draws_stay_under_what_chance_allows_and_wrong_ones_do_not() -> None:
    for probe in open_probes(["gemma2", "gemma3"]):
        context, logits = place(probe)
        for number, setting in enumerate((*LOUD, ORDER)):
            right = probabilities(logits, context, setting)
            random = np.random.default_rng(number)
            for _ in range(50):
                assert apart(random.multinomial(DRAWS, right / right.sum()) / DRAWS, right) <= allowed(right)
    assert apart(scaled_last(logits, context, ORDER), probabilities(logits, context, ORDER)) > allowed(right)


def test_a_family_names_its_probes() -> None:
    assert {probe.name for probe in open_probes(["llama"])} == {"llama3", "llama3-outliers", "llama-gelu"}


def test_weights_in_a_type_that_a_probe_leaves_are_not_judged_by_the_type_of_the_cache() -> None:
    probe = next(one for one in open_probes() if not one.judges("float16"))
    subject, loaded = object.__new__(Subject), LoadResult(vocab_size=1500, details={"kv_types": [["bf16", "bf16"]]})
    subject.weights = "F16"
    assert subject.precision(loaded, probe) == "float16"
    other = next(one for one in open_probes() if one.judges("float16") and one.judges("bfloat16"))
    assert subject.precision(loaded, other) == "bfloat16"
