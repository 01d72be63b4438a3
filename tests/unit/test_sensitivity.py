"""What each tensor's quantization costs: the whole equals the quantized model, sharing changes no bit, a budget is kept."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.errors import ContractError, ModelError
from logitproof.gguf.write import to_gguf
from logitproof.reference.model import load
from logitproof.sensitivity import measure as measuring
from logitproof.sensitivity import subject as subjects
from logitproof.sensitivity import types as made_by
from logitproof.sensitivity.measure import RESULTS, Bench, Unit, units_of
from logitproof.sensitivity.plan import budget_of, bytes_of, planned, tensor_type_file
from logitproof.sensitivity.sensitivity import Asked, Sensitivity, sensitivity
from logitproof.sensitivity.subject import Subject
from logitproof.sensitivity.text import document, file_type
from logitproof.sensitivity.types import Tensor, bytes_in, check_types, is_quantizable, quantized, type_for, type_of

ROOT = Path(__file__).parents[2]
LLAMA, MOE = ROOT / "zoo/llama3", ROOT / "zoo/qwen3-moe"
TEXT = (ROOT / "zoo/corpus/en-1.txt").read_text("utf-8")


@pytest.fixture(scope="module")
def llama() -> Subject:
    return Subject(LLAMA)


def bench_of(subject: Subject, folder: Path | None = None) -> Bench:
    return Bench(subject, subject.fed(TEXT, 3, 8), folder, {})


def kl(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Mean over positions, by the definition, in float64; of each window all positions but the first."""
    p, q = (torch.log_softmax(torch.from_numpy(rows[:, 1:].astype(np.float64)), -1).numpy() for rows in (reference, candidate))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def passed(model: Any, fed: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(model(fed, use_cache=False).logits.numpy())


@pytest.mark.parametrize("folder", [LLAMA, MOE], ids=lambda folder: folder.name)
def test_all_at_once_is_the_quantized_model(folder: Path, tmp_path: Path) -> None:
    subject = Subject(folder)
    bench = bench_of(subject)
    unit, kinds = next(units_of(subject.tensors, ["Q8_0"], all_but=False))
    cost = bench.cost(unit, kinds)
    file = to_gguf(folder, tmp_path / "whole.gguf", "Q8_0", tokenizer=False)
    whole = load(file, folder).model
    expected = kl(passed(load(folder).model, bench.fed), passed(whole, bench.fed))
    assert cost.mean == pytest.approx(expected, rel=1e-6, abs=1e-14) and cost.mean > 1e-8
    subject.plant(kinds)
    assert np.array_equal(passed(subject.model, bench.fed), passed(whole, bench.fed))


def test_a_file_of_the_model_gives_what_its_folder_gives(llama: Subject, tmp_path: Path) -> None:
    subject = Subject(to_gguf(LLAMA, tmp_path / "llama.gguf", "F32"))
    units = [unit for unit in units_of(llama.tensors, ["Q4_0"], all_but=True) if unit[0].group != "tensor"]
    of_folder, of_file = bench_of(llama), bench_of(subject)
    assert {tensor.name for tensor in subject.tensors} == {tensor.name for tensor in llama.tensors}
    assert [of_folder.cost(*unit).mean for unit in units] == [of_file.cost(*unit).mean for unit in units]


@pytest.mark.parametrize("folder", [LLAMA, MOE], ids=lambda folder: folder.name)
def test_sharing_the_layers_below_changes_no_bit_and_nothing_stays_planted(folder: Path) -> None:
    subject = Subject(folder)
    bench = bench_of(subject)
    reference = passed(subject.model, bench.fed)
    for unit, kinds in units_of(subject.tensors, ["Q4_0"], all_but=True):
        cost = bench.cost(unit, kinds)
        subject.plant(kinds)
        assert cost.mean == pytest.approx(kl(reference, passed(subject.model, bench.fed)), rel=1e-6, abs=1e-13), unit.id
    subject.plant({})
    assert np.array_equal(passed(subject.model, bench.fed), reference)


def test_units_are_each_tensor_layer_and_kind_alone_and_all_but_it(llama: Subject) -> None:
    units = list(units_of(llama.tensors, ["Q4_0", "Q8_0"], all_but=True))
    names = {tensor.name for tensor in llama.tensors}
    for unit, kinds in units:
        wanted = set(names)
        if unit.group != "all":
            inside = {"tensor": "name", "layer": "layer", "kind": "kind"}[unit.group]
            members = {tensor.name for tensor in llama.tensors if str(getattr(tensor, inside)) == unit.name}
            assert members
            wanted = names - members if unit.but else members
        assert set(kinds) == wanted
    assert len({(unit.group, unit.name, unit.type, unit.but) for unit, _ in units}) == len(units)
    counts = {(unit.group, unit.but): 0 for unit, _ in units}
    for unit, _ in units:
        counts[unit.group, unit.but] += unit.type == "Q4_0"
    kinds_of = len({tensor.kind for tensor in llama.tensors})
    assert counts == {
        ("all", False): 1, ("tensor", False): len(names), ("layer", False): 2, ("kind", False): kinds_of,
        ("tensor", True): len(names), ("layer", True): 2, ("kind", True): kinds_of,
    }  # fmt: skip


def test_a_tensor_that_is_made_worthless_ranks_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worthless = Subject(LLAMA)._held.rows("blk.1.attn_output.weight")

    def made(values: np.ndarray, kind: str) -> np.ndarray:
        return np.zeros_like(values) if np.array_equal(values, worthless) else quantized(values, kind)

    monkeypatch.setattr(subjects, "quantized", made)
    asked = Asked(("Q8_0",), tmp_path / "text.txt", windows=2, tokens=8)
    (tmp_path / "text.txt").write_text(TEXT)
    measured = sensitivity(LLAMA, asked, lambda *_: None)
    assert measured.of("tensor")[0].unit.name == "blk.1.attn_output.weight"
    assert measured.of("layer")[0].unit.name == "1" and measured.of("kind")[0].unit.name == "attn_output"
    assert measured.of("tensor", but=True)[-1].unit.name == "blk.1.attn_output.weight"
    assert "blk.1.attn_output.weight" in document(measured).verdict.reason


def run(folder: Path, **changes: Any) -> Sensitivity:
    asked = Asked(**{"types": ("Q4_0", "Q8_0"), "windows": 2, "tokens": 6, "budget": "6bpw", "folder": folder, **changes})
    return sensitivity(LLAMA, asked, lambda *_: None)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path)
    lines = (tmp_path / RESULTS).read_text().splitlines(keepends=True)
    (tmp_path / RESULTS).write_text("".join(lines[:20]) + lines[20][:15])
    count = []
    before = Bench._measured
    monkeypatch.setattr(Bench, "_measured", lambda self, unit, kinds: count.append(unit.id) or before(self, unit, kinds))
    again = run(tmp_path)
    assert len(count) == len(lines) - 20
    assert [cost.mean for cost in again.costs] == [cost.mean for cost in whole.costs]
    assert again.plan == whole.plan
    count.clear()
    run(tmp_path, tokens=7)
    assert len(count) == len(lines), "results of other tokens must not count"


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"key": 1}', "null", '{"key": "K", "unit": "u", "sums": [NaN], "largest": 1}']
)
def test_a_line_that_says_nothing_is_as_if_it_were_not_there(tmp_path: Path, line: str) -> None:
    (tmp_path / RESULTS).write_text(line + "\n")
    assert measuring.Results(tmp_path / RESULTS, "K").read("u", 1) is None


def test_a_result_of_more_or_fewer_windows_is_none(tmp_path: Path) -> None:
    results = measuring.Results(tmp_path / RESULTS, "K")
    results.write("u", [0.5, 0.25], 0.5)
    again = measuring.Results(tmp_path / RESULTS, "K")
    assert again.read("u", 2) == ((0.5, 0.25), 0.5)
    assert again.read("u", 1) is None and again.read("u", 3) is None


def test_a_result_after_a_line_that_was_cut_off_is_kept(tmp_path: Path) -> None:
    measuring.Results(tmp_path / RESULTS, "K").write("first", [1.0], 1.0)
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"key": "K", "uni')
    measuring.Results(tmp_path / RESULTS, "K").write("second", [2.0], 2.0)
    again = measuring.Results(tmp_path / RESULTS, "K")
    assert again.read("first", 1) == ((1.0,), 1.0) and again.read("second", 1) == ((2.0,), 2.0)


@pytest.mark.parametrize(
    ("module", "name"),
    [("logitproof.reference.versions", "versions"), ("logitproof.sensitivity.types", "_library_versions")],
)
def test_results_of_other_libraries_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llama: Subject, module: str, name: str
) -> None:
    unit = Unit("tensor", "output.weight", "Q6_K")
    kinds = {"output.weight": "Q6_K" if llama._held.shape("output.weight")[-1] % 256 == 0 else "Q8_0"}
    count = []
    before = Bench._measured
    monkeypatch.setattr(Bench, "_measured", lambda self, unit, kinds: count.append(unit.id) or before(self, unit, kinds))
    for expected in (1, 1):
        bench_of(llama, tmp_path).cost(unit, kinds)
        assert len(count) == expected
    monkeypatch.setattr(f"{module}.{name}", lambda: {"library": "another build"})
    bench_of(llama, tmp_path).cost(unit, kinds)
    assert len(count) == 2


def test_a_model_that_is_written_to_meanwhile_ends_the_run_and_keeps_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(LLAMA, folder)
    weights = folder / "model.safetensors"
    before = Bench._measured

    def written(self: Bench, unit: Unit, kinds: dict[str, str]) -> Any:
        cost = before(self, unit, kinds)
        os.utime(weights, ns=(1, 1))
        return cost

    monkeypatch.setattr(Bench, "_measured", written)
    asked = Asked(("Q4_0",), windows=2, tokens=6, folder=tmp_path / "out")
    with pytest.raises(ModelError, match="model.safetensors was replaced or written to"):
        sensitivity(folder, asked, lambda *_: None)
    assert not (tmp_path / "out" / RESULTS).exists()


def test_a_plan_keeps_its_budget_and_is_measured(tmp_path: Path) -> None:
    measured = run(tmp_path)
    plan = measured.plan
    assert plan is not None and plan.bytes <= plan.budget
    assert plan.bytes == measured.fixed + bytes_of(plan.types, measured.tensors)
    assert set(plan.types) == {tensor.name for tensor in measured.tensors} and len(set(plan.types.values())) == 2
    worst, best = measured.of("all", kind="Q4_0")[0].mean, measured.of("all", kind="Q8_0")[0].mean
    assert best < plan.measured.mean < worst
    assert plan.predicted == pytest.approx(plan.measured.mean, rel=0.5)
    assert measured.bytes_in("Q4_0") < plan.bytes < measured.bytes_in("Q8_0")


tensors = st.lists(
    st.tuples(st.integers(1, 64), st.sampled_from([32, 64, 256, 512]), st.floats(0, 1), st.floats(0, 1)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(tensors, st.floats(0, 1.2))
def test_no_plan_weighs_more_than_its_budget(rows: list[tuple[int, int, float, float]], share: float) -> None:
    shaped = [
        Tensor(f"blk.{number}.x.weight", (count, columns), number, "x") for number, (count, columns, *_) in enumerate(rows)
    ]
    types = [(type_of(tensor, "Q4_K"), type_of(tensor, "Q8_0")) for tensor in shaped]
    options = {
        tensor.name: {first: row[2], second: row[3]} for tensor, (first, second), row in zip(shaped, types, rows, strict=True)
    }
    light, heavy = (
        sum(bytes_in(kinds[side], tensor.shape) for kinds, tensor in zip(types, shaped, strict=True)) for side in (0, 1)
    )
    budget = int(light * 0.9 + share * (heavy - light * 0.9)) + 100
    if light + 100 > budget:
        with pytest.raises(ContractError, match=f"weigh {light + 100:,} bytes"):
            planned(shaped, options, budget, 100)
        return
    chosen = planned(shaped, options, budget, 100)
    left = budget - 100 - bytes_of(chosen, shaped)
    assert left >= 0
    for tensor in shaped:  # nothing is left that would fit and save
        for kind, cost in options[tensor.name].items():
            more = bytes_in(kind, tensor.shape) - bytes_in(chosen[tensor.name], tensor.shape)
            assert not (0 < more <= left and cost < options[tensor.name][chosen[tensor.name]])


def test_the_line_of_a_tensor_fits_no_other_name() -> None:
    names = [f"blk.{number}.{kind}.weight" for number in (0, 1, 11, 10) for kind in ("ffn_up", "ffn_up_exps", "attn_q")]
    names += ["output.weight", "token_embd.weight", "blk.1.attn_output.weight"]
    patterns = [line.partition("=")[0] for line in tensor_type_file(dict.fromkeys(names, "Q4_K")).splitlines()]
    assert [[name for name in names if re.search(pattern, name)] for pattern in patterns] == [[name] for name in names]


def tool() -> Path:
    folder = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools")
    program = shutil.which(
        "llama-quantize", path=os.pathsep.join([str(folder / "bin"), str(folder), os.environ.get("PATH", "")])
    )
    if program is None:
        pytest.skip("NOT-MEASURED: llama-quantize is not here")
    return Path(program)


def test_llama_quantize_does_what_the_plan_says(tmp_path: Path) -> None:
    program = tool()
    measured = run(tmp_path / "run", types=("Q4_K", "Q6_K"), budget="7bpw")
    assert measured.plan is not None
    (tmp_path / "types.txt").write_text(tensor_type_file(measured.plan.types))
    source, out = to_gguf(LLAMA, tmp_path / "f32.gguf", "F32"), tmp_path / "out.gguf"
    words = [str(program), "--tensor-type-file", str(tmp_path / "types.txt"), str(source), str(out), "Q4_K_M"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    held = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(out).tensors}
    assert {name: held[name] for name in measured.plan.types} == measured.plan.types
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in gguf.GGUFReader(out).tensors}
    assert sum(sizes[name] for name in measured.plan.types) == bytes_of(measured.plan.types, measured.tensors)


def quantize(source: Path, out: Path, plan: str, whole: str) -> None:
    """What llama-quantize does with a file of types, by the library behind it: `parse_tensor_type_file`, then the call."""
    llama = pytest.importorskip("llama_cpp", reason="NOT-MEASURED: pip install 'logitproof[llamacpp]'").llama_cpp
    made_by._library()  # keeps the library's words off stderr
    pairs = [line.split("=") for line in plan.split()]
    overrides = (llama.llama_model_tensor_override * (len(pairs) + 1))()
    for entry, (pattern, kind) in zip(overrides, pairs, strict=False):
        entry.pattern, entry.type = pattern.lower().encode(), gguf.GGMLQuantizationType[kind.upper()]
    params = llama.llama_model_quantize_default_params()
    params.nthread, params.ftype = 1, gguf.LlamaFileType[f"MOSTLY_{whole}"]
    params.tt_overrides = ctypes.cast(overrides, type(params.tt_overrides))
    assert llama.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) == 0


@pytest.mark.parametrize("folder", [LLAMA, MOE], ids=lambda folder: folder.name)
@pytest.mark.parametrize("types", [("Q4_K", "Q6_K"), ("F16", "Q4_0")], ids=str)
def test_the_library_behind_llama_quantize_makes_what_the_plan_says(
    folder: Path, types: tuple[str, ...], tmp_path: Path
) -> None:
    tensors = Subject(folder).tensors
    plan = {tensor.name: type_of(tensor, types[number % 2]) for number, tensor in enumerate(tensors)}
    source, out = to_gguf(folder, tmp_path / "f32.gguf", "F32"), tmp_path / "out.gguf"
    quantize(source, out, tensor_type_file(plan), file_type(types))
    held = {tensor.name: tensor for tensor in gguf.GGUFReader(out).tensors}
    assert {name: held[name].tensor_type.name for name in plan} == plan and len(set(plan.values())) > 1
    assert {tensor.tensor_type.name for name, tensor in held.items() if name not in plan} == {"F32"}
    assert sum(int(held[name].n_bytes) for name in plan) == bytes_of(plan, tensors)


@pytest.mark.parametrize(
    ("text", "size"),
    [("60MB", 60_000_000), ("1.5 GiB", 1_610_612_736), ("100B", 100), ("2kib", 2048), ("4.5bpw", 562), ("8 bits", 1000)],
)
def test_a_budget_is_bytes_or_bits_a_weight(text: str, size: int) -> None:
    assert budget_of(text, 1000) == size


@pytest.mark.parametrize(
    "text", ["60", "MB", "-5MB", "0MB", "0.1B", "0.001bpw", "9" * 400 + "GB", "5 parsecs", "5MBx", "nan MB", "1e3MB"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="no budget"):
        budget_of(text, 1000)


@pytest.mark.parametrize(
    ("types", "text"),
    [
        (("Q9_X",), "no quantization is called 'Q9_X'"),
        (("F32",), "no quantization is called 'F32'"),
        (("I32",), "no quantization is called 'I32'"),
        (("Q4_0", "q4_0"), "Q4_0 stands twice"),
        (("IQ2_XXS",), "needs an importance matrix"),
        (("Q8_K",), "Q8_K cannot be made here"),
    ],
)
def test_a_type_that_cannot_be_made_is_refused(types: tuple[str, ...], text: str) -> None:
    with pytest.raises(ContractError, match=text):
        check_types(types)


def test_rows_that_are_no_whole_blocks_get_the_type_that_llama_cpp_gives_them() -> None:
    assert [type_for("Q4_K", (4, size)) for size in (256, 576, 48, 100)] == ["Q4_K", "Q5_0", "F16", "F16"]
    assert [type_for("Q8_0", (4, size)) for size in (64, 100)] == ["Q8_0", "F16"]
    assert [type_for("IQ3_S", (4, size)) for size in (256, 576, 100)] == ["IQ3_S", "IQ4_NL", "F16"]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("blk.0.attn_q.weight", True), ("token_embd.weight", True), ("blk.0.ffn_up_exps.weight", True),
        ("per_layer_token_embd.weight", True), ("per_layer_model_proj.weight", False), ("blk.0.ffn_gate_inp.weight", False),
        ("blk.0.laurel_l.weight", False), ("blk.0.attn_norm.weight", False), ("blk.0.attn_q.bias", False),
    ],
)  # fmt: skip
def test_what_llama_cpp_never_quantizes_is_no_part_of_a_plan(name: str, is_one: bool) -> None:
    assert is_quantizable(name, (64, 64)) == is_one


@pytest.mark.parametrize(
    ("kinds", "name"),
    [(("Q4_K", "Q6_K"), "Q4_K_S"), (("Q8_0", "Q4_0"), "Q8_0"), (("F16", "Q4_0"), "Q4_0"), (("MXFP4", "BF16"), "Q8_0")],
)
def test_the_whole_file_has_a_type_that_the_tool_has_and_that_is_quantized(kinds: tuple[str, ...], name: str) -> None:
    assert file_type(kinds) == name


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "Q4_0", "Q8_0", "BF16", "MXFP4"])
def test_a_type_gives_back_values_as_near_as_its_bits_allow(kind: str) -> None:
    check_types((kind,))
    values = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    error = float(np.sqrt(np.mean((quantized(values, kind) - values) ** 2)))
    bits = 9 if kind == "BF16" else 8 * bytes_in(kind, values.shape) / values.size  # of it the significand alone counts here
    assert 0 < error < 4 * 2.0**-bits


def test_what_cannot_be_measured_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("two words")
    with pytest.raises(ContractError, match="tokens, and 6 windows of 16 are wanted"):
        sensitivity(LLAMA, Asked(("Q8_0",), tmp_path / "short.txt"), lambda *_: None)
    with pytest.raises(ContractError, match="only one is named"):
        sensitivity(LLAMA, Asked(("Q8_0",), budget="5MB"), lambda *_: None)
    with pytest.raises(ContractError, match="the lightest types weigh"):
        run(tmp_path, budget="1bpw")
    with pytest.raises(ModelError, match="no such file or folder"):
        sensitivity(tmp_path / "none", Asked(("Q8_0",)), lambda *_: None)
    toy = tmp_path / "toy.json"
    toy.write_text(json.dumps({"vocab_size": 3}))
    with pytest.raises(ContractError, match="neither a Hugging Face folder nor a GGUF file"):
        sensitivity(toy, Asked(("Q8_0",)), lambda *_: None)


@pytest.mark.parametrize(("kind", "is_told"), [("F32", False), ("F16", False), ("Q8_0", True)])
def test_weights_that_were_quantized_before_are_told(tmp_path: Path, kind: str, is_told: bool) -> None:
    file = to_gguf(LLAMA, tmp_path / "m.gguf", kind)
    asked = Asked(("Q8_0",), windows=2, tokens=6, all_but=False)
    measured = sensitivity(file, asked, lambda *_: None)
    assert ("quantized already" in str(document(measured).sections[0])) == is_told
    assert (measured.of("all")[0].mean < 1e-12) == is_told


def test_one_window_has_no_interval(tmp_path: Path) -> None:
    measured = run(tmp_path, windows=1, tokens=8, budget="", all_but=False)
    assert all(cost.interval is None for cost in measured.costs) and measured.plan is None
    assert not any(cost.unit.but for cost in measured.costs)
    assert Unit("all", "", "Q4_0") in [cost.unit for cost in measured.costs]
