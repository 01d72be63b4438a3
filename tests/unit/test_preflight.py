"""What preflight says of files and traces with one fault, and that it says nothing of those without."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof import catalog
from logitproof.contract.contract import EngineUse
from logitproof.contract.suite import Prompt, Suite
from logitproof.errors import ContractError
from logitproof.gguf.layout import Layout, Planned
from logitproof.gguf.side import open_side
from logitproof.gguf.tensors import FolderTensors, GgufTensors, PlannedTensors, sampled
from logitproof.gguf.write import to_gguf
from logitproof.jobs.cell import Cell
from logitproof.preflight import Finding, Preflight, Seen, Setting, Setup
from logitproof.preflight import weights as weights_module
from logitproof.preflight._explain import explain
from logitproof.traces.trace import Trace

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from _set_up_faults import DROP, edit_folder, edit_gguf, first_row, unpaired_rows, with_nan  # noqa: E402

FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
Made = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """GGUF files of the zoo, converted when a test first asks."""
    folder = tmp_path_factory.mktemp("gguf")

    def make(family: str, quantization: str) -> Path:
        target = folder / f"{family}-{quantization}.gguf"
        return target if target.exists() else to_gguf(ROOT / "zoo" / family, target, quantization)

    return make


def setup(original: Path, file: Path, label: str = "F32", prompts: Sequence[Prompt] = (), **uses: EngineUse) -> Setup:
    plain = {"reference_use": EngineUse(engine="transformers"), "candidate_use": EngineUse(engine="llamacpp"), **uses}
    suites = (Suite(suite="s", prompts=list(prompts)),) if prompts else ()
    return Setup(
        "mine", "m", label, plain["reference_use"], plain["candidate_use"], open_side(original), open_side(file), suites
    )


def said(one: Setup) -> list[Setting | Finding]:
    checks = [catalog.load("preflight", name)() for name in catalog.entries("preflight")]
    return [row for check in checks for row in check.examine(one)]


def findings(one: Setup) -> list[Finding]:
    return [row for row in said(one) if isinstance(row, Finding)]


def codes(one: Setup) -> set[str]:
    return {found.code for found in findings(one)}


@pytest.mark.parametrize("quantization", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_conversion_is_let_through_and_really_compared(made: Made, family: str, quantization: str) -> None:
    rows = said(setup(ROOT / "zoo" / family, made(family, quantization), quantization))
    assert [str(row) for row in rows if isinstance(row, Finding)] == []
    same = {row.name for row in rows if isinstance(row, Setting) and row.likeness == "same"}
    assert {"weights", "rope base", "norm epsilon", "vocabulary", "merges", "attention heads"} <= same
    assert not [row for row in rows if isinstance(row, Setting) and row.likeness == "not compared"]


def test_every_code_is_claimed_once_and_every_finding_has_a_claimed_code() -> None:
    claimed = [code for name in catalog.entries("preflight") for code in catalog.load("preflight", name).codes]
    twice = {code for code in claimed if claimed.count(code) > 1}
    assert not twice
    assert all(len(code) == 5 and code.startswith("PF") for code in claimed)
    page = (ROOT / "docs/contract.md").read_text("utf-8")
    assert [code for code in claimed if f"| {code} | " not in page] == []


@pytest.mark.parametrize(
    ("family", "key", "value", "code"),
    [
        ("llama3", "llama.rope.freq_base", 10000.0, "PF201"),
        ("llama3", "llama.rope.freq_base", DROP, "PF201"),
        ("qwen3", "qwen3.rope.scaling.type", "yarn", "PF202"),
        ("llama3", "llama.rope.dimension_count", 32, "PF203"),
        ("qwen3", "qwen3.attention.layer_norm_rms_epsilon", 1e-5, "PF204"),
        ("qwen3", "qwen3.attention.layer_norm_rms_epsilon", DROP, "PF204"),
        ("qwen3", "qwen3.attention.head_count", 6, "PF205"),
        ("qwen3", "qwen3.attention.head_count_kv", DROP, "PF205"),
        ("qwen3", "qwen3.attention.value_length", 32, "PF206"),
        ("qwen3", "qwen3.block_count", 1, "PF207"),
        ("qwen3", "qwen3.attention.sliding_window", 16, "PF209"),
        ("qwen3", "qwen3.attn_logit_softcapping", 50.0, "PF210"),
        ("qwen3-moe", "qwen3moe.expert_used_count", 3, "PF211"),
        ("llama3", "llama.context_length", 64, "PF212"),
        ("llama3", "llama.residual_scale", 0.2, "PF213"),
        ("llama3", "llama.attention.scale", 1.0, "PF213"),
        ("llama3", "llama.vocab_size", 1501, "PF214"),
        ("qwen3.5", "qwen35.ssm.group_count", 3, "PF215"),
        ("llama3", "tokenizer.ggml.add_bos_token", False, "PF306"),
        ("llama3", "tokenizer.ggml.bos_token_id", 3, "PF305"),
        ("llama3", "tokenizer.ggml.pre", "qwen2", "PF304"),
        ("llama3", "tokenizer.chat_template", "{{ x }}", "PF307"),
        ("llama3", "general.file_type", 7, "PF108"),
    ],
)
def test_one_key_of_a_gguf_file_is_named(made: Made, tmp_path: Path, family: str, key: str, value: Any, code: str) -> None:
    edited = edit_gguf(made(family, "F32"), tmp_path / "edited.gguf", keys={key: value})
    found = findings(setup(ROOT / "zoo" / family, edited))
    assert [one.code for one in found] == [code]
    assert found[0].remedy and found[0].file == "edited.gguf"
    assert found[0].field == key
    assert found[0].reference != found[0].candidate


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qwen3.rope.scaling.type", "none"),
        ("qwen3.attention.scale", 0.125),
        ("qwen3.attention.sliding_window", 0),
        ("qwen3.final_logit_softcapping", 0.0),
        ("qwen3.rope.dimension_count", 64),
        ("qwen3.vocab_size", 1540),
    ],
)
def test_a_key_that_says_what_is_so_anyway_is_no_fault(made: Made, tmp_path: Path, key: str, value: Any) -> None:
    edited = edit_gguf(made("qwen3", "F32"), tmp_path / "edited.gguf", keys={key: value})
    assert codes(setup(ROOT / "zoo/qwen3", edited)) == set()


@pytest.mark.parametrize(
    ("family", "tensors", "code", "word"),
    [
        ("qwen3", {"blk.0.ffn_up.weight": None}, "PF101", "missing"),
        ("llama3", {"rope_freqs.weight": None}, "PF202", "missing"),
        ("llama3", {"output.weight": None}, "PF208", "missing"),
        ("qwen3", {"blk.1.attn_q.weight": np.zeros_like}, "PF106", "every value is 0"),
        ("qwen3", {"blk.1.attn_q_norm.weight": np.ones_like}, "PF106", "every value is 1"),
        ("qwen3", {"blk.1.ffn_norm.weight": lambda values: 3 * values}, "PF104", "times 3"),
        ("llama3", {"blk.1.attn_q.weight": unpaired_rows(8)}, "PF105", "another order"),
        ("qwen2.5", {"blk.0.attn_output.weight": np.transpose}, "PF105", "transposed"),
        ("qwen3", {"blk.0.ffn_down.weight": lambda values: values[:, ::-1]}, "PF105", "columns"),
        ("qwen3.5", {"blk.0.attn_norm.weight": lambda values: values - 1}, "PF104", "minus one"),
        ("qwen3", {"token_embd.weight": first_row(0.3)}, "PF104", "row 40"),
        ("qwen3", {"output_norm.weight": lambda values: with_nan(values[None].repeat(4, 0))[3]}, "PF107", "not finite"),
        ("qwen3", {"blk.0.ffn_up.weight": lambda values: values[:-32]}, "PF103", "shape"),
    ],
)
def test_one_tensor_of_a_gguf_file_is_named(
    made: Made, tmp_path: Path, family: str, tensors: dict[str, Any], code: str, word: str
) -> None:
    edited = edit_gguf(made(family, "F32"), tmp_path / "edited.gguf", tensors=tensors)
    (found,) = findings(setup(ROOT / "zoo" / family, edited))
    assert (found.code, found.field) == (code, next(iter(tensors)))
    assert word in found.candidate


def test_a_tensor_of_no_checkpoint_is_named(made: Made, tmp_path: Path) -> None:
    folder = edit_folder(ROOT / "zoo/qwen3", tmp_path / "m", tensors=lambda held: held.pop("model.layers.1.mlp.up_proj.weight"))
    found = findings(setup(folder, made("qwen3", "F32")))
    assert {"PF101", "PF102"} <= {one.code for one in found}


def test_a_sample_of_rows_is_compared_in_a_large_tensor_and_said_so(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "WHOLE_BELOW", 1000)
    monkeypatch.setattr(weights_module, "SAMPLED", 8)
    for family in ("llama3", "qwen3-moe", "qwen3.5"):
        rows = said(setup(ROOT / "zoo" / family, made(family, "F32")))
        assert [str(row) for row in rows if isinstance(row, Finding)] == []
        (weights,) = [row for row in rows if isinstance(row, Setting) and row.name == "weights"]
        assert "8 rows each" in weights.note and "equal" in weights.note
    edited = edit_gguf(made("llama3", "F32"), tmp_path / "x.gguf", tensors={"blk.1.attn_q.weight": unpaired_rows(8)})
    assert codes(setup(ROOT / "zoo/llama3", edited)) & {"PF104", "PF105"}


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_are_read_alone_are_those_of_the_whole_tensor(made: Made, family: str) -> None:
    side = open_side(ROOT / "zoo" / family)
    assert isinstance(side.layout, Layout)
    planned = PlannedTensors(FolderTensors(side.path), side.layout)
    written = GgufTensors(open_side(made(family, "F32")).reader)
    index = np.array([0, 3, 5])
    for name in planned.names:
        assert planned.shape(name) == written.shape(name)
        whole = written.rows(name)
        np.testing.assert_allclose(planned.rows(name), whole, rtol=1e-6)
        if len(whole) > 5:
            np.testing.assert_allclose(planned.rows(name, index), whole[index], rtol=1e-6)


def test_a_change_of_values_is_never_taken_for_an_order_of_rows(tmp_path: Path) -> None:
    folder = FolderTensors(ROOT / "zoo/qwen3")
    name = "model.layers.0.mlp.up_proj.weight"
    whole = folder.rows(name)
    for change in (lambda a: a[0] + np.float32(1), lambda a: a[0][:, ::-1], lambda a: 2 * a[0], lambda a: a[0][::-1]):
        tensors = PlannedTensors(folder, Layout("x", {}, [Planned("t", (name,), change)]))
        np.testing.assert_array_equal(tensors.rows("t", np.array([1, 4])), change([whole])[[1, 4]])


def test_a_sample_has_the_first_and_the_last_row() -> None:
    index = sampled(100_000, 64, 1 << 20, 512)
    assert index is not None and (index[0], index[-1], len(index)) == (0, 99_999, 512)
    assert sampled(100, 64, 1 << 20, 512) is None


def test_what_is_unrelated_is_called_so() -> None:
    random = np.random.default_rng(0)
    ours, theirs = (random.normal(size=(64, 64)).astype(np.float32) for _ in range(2))
    assert explain(ours, theirs, (64, 64))[1].startswith("values that have nothing to do with them")
    assert explain(ours, ours[random.permutation(64)], (64, 64))[0] == "PF105"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rope_parameters": None}, {"PF201"}),
        ({"tie_word_embeddings": False}, {"PF208"}),
        ({"head_dim": 32}, {"PF206", "PF203"}),
        ({"vocab_size": 1600}, {"PF301"}),
        ({"hidden_act": "gelu"}, {"PF200"}),
        ({"rms_norm_eps": None}, {"PF200"}),
        ({"final_logit_softcapping": 30.0}, {"PF210"}),
        ({"logits_scaling": 8.0}, {"PF213"}),
    ],
)
def test_one_field_of_config_json_is_named(made: Made, tmp_path: Path, changes: dict[str, Any], expected: set[str]) -> None:
    folder = edit_folder(ROOT / "zoo/qwen3", tmp_path / "m", config=lambda config: config.update(changes))
    assert codes(setup(folder, made("qwen3", "F32"))) & expected


def test_two_folders_are_compared_under_their_own_names(tmp_path: Path) -> None:
    folder = edit_folder(ROOT / "zoo/qwen3", tmp_path / "same", tensors=lambda held: None)
    assert codes(setup(ROOT / "zoo/qwen3", folder, "original")) == set()
    name = "model.layers.1.mlp.up_proj.weight"
    other = edit_folder(
        ROOT / "zoo/qwen3", tmp_path / "other", tensors=lambda held: held.update({name: np.ascontiguousarray(held[name][::-1])})
    )
    (found,) = findings(setup(ROOT / "zoo/qwen3", other, "original"))
    assert (found.code, found.field) == ("PF105", name)


def test_a_family_that_no_layout_knows_is_said_to_be_not_compared(made: Made, tmp_path: Path) -> None:
    folder = edit_folder(
        ROOT / "zoo/qwen3", tmp_path / "m", config=lambda config: config.update(architectures=["NewForCausalLM"])
    )
    rows = said(setup(folder, made("qwen3", "F32")))
    missed = {row.name for row in rows if isinstance(row, Setting) and row.likeness == "not compared"}
    assert {"config", "weights"} <= missed
    edited = edit_gguf(made("qwen3", "F32"), tmp_path / "x.gguf", keys={"qwen3.rope.freq_base": 10000.0})
    assert "PF201" in codes(setup(folder, edited))


@pytest.mark.parametrize(
    ("label", "reference", "candidate", "expected"),
    [
        ("F32", {"dtype": "float32"}, {"kv_type": "f32"}, set()),
        ("F32", {}, {"kv_type": "f16"}, {"PF401"}),
        ("Q8_0", {}, {"kv_type": "f16"}, set()),
        ("F32", {"dtype": "bfloat16"}, {}, {"PF402"}),
        ("original", {"dtype": "bfloat16"}, {"dtype": "bfloat16"}, set()),
        ("original", {}, {"dtype": "bfloat16"}, set()),
        ("Q8_0", {"dtype": "bfloat16"}, {}, {"PF402"}),
        ("F32", {}, {"argv": ["x", "--cache-type-k=f16"]}, {"PF401"}),
        ("F32", {}, {"argv": ["x", "-ctk", "q8_0"]}, {"PF401"}),
        ("F32", {}, {"argv": ["x", "--temp", "0.7"]}, {"PF403"}),
        ("F32", {}, {"options": {"repetition_penalty": 1.1}}, {"PF403"}),
        ("F32", {"temperature": 0}, {"top_p": 1.0, "top_k": 1}, set()),
        ("F32", {"adapter": "a"}, {}, {"PF405"}),
        ("F32", {"adapter": "a"}, {"adapter": "a.gguf"}, set()),
    ],
)
def test_engine_settings_are_judged_by_what_the_label_asks_for(
    tmp_path: Path, label: str, reference: dict[str, Any], candidate: dict[str, Any], expected: set[str]
) -> None:
    model = tmp_path / "m.json"
    model.write_text("{}")
    ours = EngineUse(engine="transformers", options=reference)
    theirs = EngineUse(engine="llamacpp", options=candidate)
    assert codes(setup(model, model, label, reference_use=ours, candidate_use=theirs)) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (Prompt(id="p", text="hello"), set()),
        (Prompt(id="p", text="<|begin_of_text|>hello"), {"PF309"}),
        (Prompt(id="p", token_ids=[1495, 5]), set()),
        (Prompt(id="p", token_ids=[1495, 1495, 5]), {"PF309"}),
        (Prompt(id="p", token_ids=[5, 1500]), {"PF308"}),
    ],
)
def test_prompts_begin_with_one_bos_and_stay_inside_the_vocabulary(made: Made, prompt: Prompt, expected: set[str]) -> None:
    assert codes(setup(ROOT / "zoo/llama3", made("llama3", "F32"), prompts=[prompt])) == expected


def looked(seen: Seen) -> Iterator[str]:
    for name in catalog.entries("preflight"):
        yield from (found.code for found in catalog.load("preflight", name)().look(seen))


def traces(**changes: Any) -> Seen:
    """A prompt of six tokens that the reference continued by four, and a candidate that is 1e-6 off."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(10, 50)).astype(np.float32) * 3
    ids = [1, 2, 3, 4, 5, 6, *(int(rows[at].argmax()) for at in range(5, 9))]
    source = Trace("s", "generate", "reference", "greedy", ids[:6], 6, rows[5:9].copy(), ids[6:])
    reference = Trace("r", "score", "reference", "prefill", ids, 10, rows)
    candidate = Trace("c", "score", "mine", "prefill", ids, 10, rows + np.float32(1e-6))
    return replace(Seen("prefill", "F32", "p", source, reference, candidate), **changes)


def changed(trace: Trace, rows: np.ndarray) -> Trace:
    return replace(trace, logits=rows.astype(np.float32))


def test_traces_that_belong_together_are_let_through() -> None:
    assert list(looked(traces())) == []


def test_rows_that_were_written_wrongly_are_named() -> None:
    seen = traces()
    rows = seen.candidate.logits
    for code, bad in (
        ("PF501", np.where(np.arange(10)[:, None] == 3, np.nan, rows)),
        ("PF502", np.where(np.arange(10)[:, None] == 3, 0.5, rows)),
        ("PF503", rows[[0, 1, 2, 2, 4, 5, 6, 7, 8, 9]]),
        ("PF504", np.roll(rows, 1, axis=0)),
        ("PF504", np.roll(rows, -1, axis=0)),
    ):
        assert list(looked(replace(seen, candidate=changed(seen.candidate, bad)))) == [code]


def test_an_engine_that_is_only_wrong_is_no_fault_of_the_set_up() -> None:
    seen = traces()
    noise = np.random.default_rng(1).normal(size=seen.candidate.logits.shape)
    for bad in (seen.candidate.logits + noise, 1.3 * seen.candidate.logits, np.random.default_rng(2).normal(size=(10, 50))):
        assert list(looked(replace(seen, candidate=changed(seen.candidate, bad)))) == []


def test_what_was_done_to_logits_before_a_token_was_chosen_is_named() -> None:
    seen = traces()
    assert seen.source is not None
    rows = seen.source.logits
    penalty = rows.copy()
    for at in range(4):
        used = seen.reference.token_ids[: 6 + at]
        penalty[at, used] = np.where(rows[at, used] > 0, rows[at, used] / 1.3, rows[at, used] * 1.3)
    foreign = np.random.default_rng(3).normal(size=rows.shape) * 3
    for code, bad in (("PF403", penalty), ("PF403", rows / 0.7), ("PF404", foreign)):
        assert list(looked(replace(seen, source=changed(seen.source, bad)))) == [code]
    noisy = rows + np.random.default_rng(4).normal(size=rows.shape) * 0.05
    assert list(looked(replace(seen, source=changed(seen.source, noisy)))) == []


def test_a_kv_cache_that_is_in_effect_counts_and_not_the_one_that_was_asked_for() -> None:
    seen = traces()
    narrow = replace(seen.candidate, details={"kv_types": [["f16", "f16"]]})
    assert list(looked(replace(seen, candidate=narrow))) == ["PF401"]
    assert list(looked(replace(seen, candidate=narrow, quantization="Q8_0"))) == []


def test_bos_that_stands_twice_in_the_tokens_is_named() -> None:
    seen = traces(bos=1)
    assert list(looked(seen)) == []
    twice = replace(seen.source, token_ids=[1, 1, 3, 4, 5, 6])  # type: ignore[type-var]
    assert list(looked(replace(seen, source=twice))) == ["PF309"]


def test_a_record_is_read_back_as_it_was(made: Made, tmp_path: Path, project: Any) -> None:
    report = project.check()
    record = report.facts["preflight"]
    assert Preflight.read(record).as_json() == record
    assert [(one["candidate"], one["quantization"]) for one in record["pairs"]] == [("good", "original")]


# -- in a run -----------------------------------------------------------------------------------------------


def test_a_finding_ends_the_cell_in_a_set_up_error_without_running_it(project: Any) -> None:
    sampling = {**project.toy(noise=1e-7), "engine": "command", "options": {"argv": ["false", "--temp", "0.7"]}}
    report = project.check(candidates={"good": project.toy(noise=1e-7), "hot": sampling})
    by_name = {cell.cell.candidate: cell for cell in report.verdict.cells}
    assert by_name["hot"].status == "SET-UP ERROR"
    assert by_name["good"].status == "MATCH"
    assert "PF403" in by_name["hot"].reason
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 2)


def test_a_finding_may_stand_with_a_reason_that_is_shown(project: Any) -> None:
    fake = project.engine()
    fake["options"]["argv"] += ["--temp", "0.7"]
    fake["may_be_exact"] = "the same program, with a flag that it ignores"
    engines = {"reference": project.engine(name="other.py"), "candidates": {"fake": fake}}
    assert project.check(**engines).verdict.exit_code == 2
    leave = {"skip": ["PF403"], "reason": "this program ignores the flag"}
    report = project.check(**engines, preflight=leave)
    assert report.verdict.status == "PASS"
    (pair,) = report.facts["preflight"]["pairs"]
    assert [found["code"] for found in pair["skipped"]] == ["PF403"] and pair["reason"] == leave["reason"]


@pytest.mark.parametrize("leave", [{"skip": ["PF403"]}, {"skip": ["PF403"], "reason": "so"}, {"skip": [], "reason": "a" * 20}])
def test_no_leave_without_a_reason_or_a_code(project: Any, leave: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        project.check(preflight=leave)


def test_leave_for_a_code_that_does_not_exist_is_refused(project: Any) -> None:
    with pytest.raises(ContractError, match="PF999"):
        project.check(preflight={"skip": ["PF999"], "reason": "a reason that is long enough"})


def test_a_run_is_told_of_its_comparison_contract_before_anything_computes(project: Any) -> None:
    from logitproof.contract.opened import open_contract
    from logitproof.runs.check import check

    order: list[str] = []
    check(
        open_contract(project.contract()),
        project.store,
        on_progress=lambda progress: order.append("job"),
        on_preflight=lambda preflight: order.append(f"preflight: {preflight.document().verdict.reason}"),
    )
    assert order[0].startswith("preflight: 1 pair, ") and order[1:] == ["job"] * (len(order) - 1) and len(order) > 3


def test_a_prompt_of_token_ids_can_be_run(project: Any) -> None:
    project.write("suite.yaml", {"suite": "s", "max_new_tokens": 2, "prompts": [{"id": "p", "token_ids": [5, 6, 7]}]})
    assert project.check().verdict.status == "PASS"


def test_findings_belong_to_the_weights_they_were_made_of() -> None:
    names = ("code", "setting", "reference", "candidate", "file", "field", "remedy", "text")
    record = {
        "pairs": [
            {
                "candidate": "a", "model": "m", "quantization": "F32", "settings": [], "skipped": [], "reason": "",
                "findings": [dict.fromkeys(names, "x")],
            }
        ]
    }  # fmt: skip
    read = Preflight.read(record)
    assert len(read.findings(Cell("a", "m", "F32", "decode", "native", "r", "c"))) == 1
    assert read.findings(Cell("a", "m", "Q8_0", "decode", "native", "r", "c")) == ()
