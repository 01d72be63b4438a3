"""The acid test on real engines: right ones pass, wrong ones fail, and what was not measured says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from logitproof.acid import text
from logitproof.acid.acid import Request, acid, probe_row
from logitproof.acid.probe import open_probes
from logitproof.acid.row import AcidReport, Row
from logitproof.acid.subject import Subject
from logitproof.acid.text import answer, verdict
from logitproof.commands.acid import diagnosis_of
from logitproof.errors import ContractError
from logitproof.jobs.worker import Spec

ONE = ["qwen3"]


def row(report: AcidReport, check: str) -> Row:
    return next(one for one in report.rows if one.check == check)


@pytest.fixture(scope="module")
def llamacpp() -> AcidReport:
    return acid(Request("llamacpp", {}))


def test_llamacpp_passes_every_probe(llamacpp: AcidReport) -> None:
    other = ("gemma3n", "llama-gelu", "llama4-chunked", "phi3.5-moe")
    probes = [one for one in llamacpp.rows if one.kind == "probe" and one.check not in other]
    assert len(probes) >= 34
    assert {one.status for one in probes} == {"PASS"}
    # llama.cpp computes Llama with SiLU, whatever the config says
    assert "'gelu' instead of 'silu'" in row(llamacpp, "llama-gelu").reason
    assert llamacpp.exit_code == 0


def test_llamacpp_is_the_same_against_itself(llamacpp: AcidReport) -> None:
    for check in ("decode = prefill", "twice = once", "chunked prefill = prefill", "batched = alone", "prefix reuse = fresh"):
        assert row(llamacpp, check).status == "PASS", text.row(row(llamacpp, check))


def test_what_llamacpp_cannot_do_is_not_measured_and_says_why(llamacpp: AcidReport) -> None:
    padded = row(llamacpp, "padded on the left = alone")
    assert padded.status == "NOT-MEASURED"
    assert "has no option" in padded.reason


def test_the_tokenizers_of_llamacpp_give_the_expected_ids(llamacpp: AcidReport) -> None:
    assert row(llamacpp, "tokens").status == "PASS", row(llamacpp, "tokens").reason
    assert row(llamacpp, "tokens of a text = tokens of its parts").status == "PASS"
    assert row(llamacpp, "draws = probabilities").status == "PASS"


def test_gelu_of_a_float16_table_is_judged_as_float16(llamacpp: AcidReport) -> None:
    assert row(llamacpp, "gemma3").precision == "float16"
    assert row(llamacpp, "qwen3").precision == "float32"


def test_a_float16_cache_is_judged_as_float16() -> None:
    report = acid(Request("llamacpp", {"kv_type": "f16", "flash_attention": True}, ONE))
    assert row(report, "qwen3").precision == "float16"
    assert report.exit_code == 0


def test_transformers_passes_with_batches_padded_on_both_sides() -> None:
    report = acid(Request("transformers", {"attention": "sdpa"}, ["gemma3"]))
    for check in ("gemma3", "padded on the left = alone", "padded on the right = alone", "chunked prefill = prefill"):
        assert row(report, check).status == "PASS", text.row(row(report, check))
    assert report.exit_code == 0


def test_a_bug_of_chunks_alone_passes_every_probe_and_not_the_engine_against_itself() -> None:
    report = acid(Request("transformers", {"mutation": "rope.restarted_in_each_chunk"}, ONE))
    assert row(report, "qwen3").status == row(report, "decode = prefill").status == "PASS"
    assert row(report, "chunked prefill = prefill").status == "FAIL"
    assert report.exit_code == 1


def test_a_bug_of_decode_alone_fails_in_decode_and_is_named(tmp_path: Path) -> None:
    with Subject(Spec("transformers", {"mutation": "rope.offset_in_decode"}), tmp_path, "folder") as subject:
        found = probe_row(subject, open_probes(ONE)[0], diagnose=diagnosis_of)
    assert found.status == "FAIL"
    assert found.worst is not None and found.worst.ratio > 1000 and found.worst.mode == "decode"
    assert "rope.offset_in_decode" in found.diagnosis.splitlines()[0]
    assert found.diagnosis.splitlines()[0] in text.row(found).notes[0].text


def test_an_engine_without_any_shared_code_agrees_on_every_probe() -> None:
    report = acid(Request("plain", {}))
    probes = [one for one in report.rows if one.kind == "probe" and one.status != "NOT-MEASURED"]
    assert {one.status for one in probes} == {"PASS"} and len(probes) >= 18
    assert row(report, "tokens").status == "NOT-MEASURED"


def test_where_no_probe_is_taken_nothing_is_proven(tmp_path: Path) -> None:
    report = acid(Request("llamacpp", {}, ["llama-gelu"]))
    assert {one.status for one in report.rows} == {"NOT-MEASURED"}
    assert report.exit_code == 3
    assert "nothing was measured" in verdict(report).reason


def test_an_engine_that_dies_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    program = tmp_path / "dies.py"
    program.write_text(
        "import json,sys\n"
        "for line in sys.stdin:\n"
        "    ask=json.loads(line)\n"
        "    if ask['method']=='hello': result={'protocol':1,'engine':'dies'}\n"
        "    elif ask['method']=='load': result={'vocab_size':306 if 'qwen3' in ask['params']['model'] else 300}\n"
        "    else: sys.exit(9)\n"
        "    print(json.dumps({'id':ask['id'],'result':result}),flush=True)\n"
    )
    report = acid(Request("command", {"argv": [sys.executable, str(program)]}, ["qwen3", "llama3"]))
    assert [one.status for one in report.rows if one.kind == "probe"] == ["ERROR", "ERROR"]
    assert "exit code 9" in row(report, "llama3").reason
    assert report.exit_code == 3


def test_the_report_is_json_that_can_be_read_back(llamacpp: AcidReport) -> None:
    read = json.loads(answer(llamacpp).text())
    assert read["exit_code"] == 0 and len(read["rows"]) == len(llamacpp.rows)
    assert all(one["held"] for one in read["rows"][0]["measured"])


def test_an_unknown_probe_or_option_is_refused() -> None:
    with pytest.raises(ContractError, match="did you mean 'qwen3'"):
        acid(Request("llamacpp", {}, ["qwen33"]))
    with pytest.raises(ContractError, match="has no option 'thread'"):
        acid(Request("llamacpp", {"thread": 1}, ONE))
