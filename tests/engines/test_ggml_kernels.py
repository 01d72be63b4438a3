"""ggml's own kernels beside float64: every kind is there, errs as the bands assume, and a fault in one stands out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_cpp")
torch = pytest.importorskip("torch")

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: E402
from gguf.quants import dequantize  # noqa: E402

from logitproof.contract import isa  # noqa: E402
from logitproof.contract.arithmetic import ACTIVATIONS  # noqa: E402
from logitproof.errors import ContractError, Refusal  # noqa: E402
from logitproof.kernels import ggml_operations as plain  # noqa: E402
from logitproof.kernels import ggml_weights as weighted  # noqa: E402
from logitproof.kernels import isa as kernels_isa  # noqa: E402
from logitproof.kernels.ggml import GgmlKernels  # noqa: E402
from logitproof.kernels.ggml_case import Case  # noqa: E402
from logitproof.kernels.kernel import Kernel  # noqa: E402
from logitproof.kernels.measure import TEXT  # noqa: E402
from logitproof.kernels.torch import TorchKernels  # noqa: E402
from logitproof.reference import float64 as wide  # noqa: E402

ROOT = Path(__file__).parents[2]
DENSE = {"matmul", "norm", "rope", "softmax", "attention", "activation"}
KINDS = {
    "llama3": DENSE,
    "qwen3-moe": DENSE | {"router", "experts", "MoE"},
    "qwen3.5": DENSE | {"delta-net"},
}
FACTOR = 3


@cache
def bench(family: str) -> tuple[TorchKernels, GgmlKernels]:
    found = TorchKernels(ROOT / "zoo" / family, TEXT)
    return found, GgmlKernels(found)


@cache
def cases(family: str) -> dict[tuple[str, str, str], Case]:
    kernels = bench(family)[1]
    return {(one.kind, one.name, one.precision): one for one in (*kernels.plain(), *kernels.weighted("Q8_0"))}


@cache
def measured(family: str) -> dict[tuple[str, str, str], Kernel]:
    return {key: case.measured(bench(family)[1].ggml) for key, case in cases(family).items()}


def rms(family: str, case: Case) -> float:
    return case.measured(bench(family)[1].ggml).rms


def exact(case: Case) -> np.ndarray:
    with torch.inference_mode(), wide.float64():
        return np.asarray(case.reference().numpy())


def relative(error: np.ndarray, right: np.ndarray) -> float:
    return float(np.sqrt((error**2).mean() / (right**2).mean()))


@pytest.mark.parametrize("family", KINDS)
def test_every_kind_of_operation_is_measured_and_none_is_exact(family: str) -> None:
    rows = measured(family).values()
    assert {one.kind for one in rows} == KINDS[family]
    for one in rows:
        assert np.isfinite([one.rms, one.p999, one.input_rms, one.input_peak]).all() and one.rms > 0, one
        assert one.p999 > one.rms and one.engine == "ggml", one
    assert {one.precision for one in rows} == {"F32", "F16", "Q8_0"}
    assert {(one.name, one.precision) for one in rows if one.kind == "attention"} == {
        (name + which, kind) for name, kind in (("unfused", "F32"), ("unfused", "F16"), ("flash", "F16"))
        for which in ("", ", one query")
    }  # fmt: skip


@pytest.mark.parametrize("family", KINDS)
def test_what_is_measured_is_what_the_bands_assume(family: str) -> None:
    for one in measured(family).values():
        assert one.assumed is not None and 1 / FACTOR < one.assumed / one.rms < FACTOR, one


@pytest.mark.parametrize("family", KINDS)
def test_rotary_errors_are_those_of_angles_multiplied_on_in_float32(family: str) -> None:
    key = ("rope", "query at 1000", "F32")
    call, query = bench(family)[0].functions["apply_rotary_pos_emb"], cases(family)[key].given
    rules = plain.settings(bench(family)[0].model.config, query.shape[-1])
    step = np.float32(rules["base"] ** (-2 / rules["count"]))
    angles = [np.arange(1000, 1000 + query.shape[2]).astype(np.float32)]
    for _ in range(1, rules["count"] // 2):
        angles.append(angles[-1] * step)
    divided = np.stack(angles, -1) / rules.get("factors", np.float32(1))
    both = torch.from_numpy(np.concatenate([divided] * 2, -1)).double()[None]
    with torch.inference_mode():
        turned = call.module(query, query, both.cos(), both.sin())[0].transpose(1, 2).numpy()
    right = exact(cases(family)[key])
    assert 0.9 < relative(turned - right, right) / measured(family)[key].rms < 1.1


def test_chunks_of_a_gated_delta_rule_err_more_than_steps() -> None:
    """So an engine that goes token by token is predicted by the noise of steps."""
    cases_of = {case.name: case for case in cases("qwen3.5").values()}
    steps = measured("qwen3.5")["delta-net", "gated_delta_rule", "F32"]
    call = bench("qwen3.5")[0].functions["torch_chunk_gated_delta_rule"]
    chunks = replace(cases_of["gated_delta_rule"], reference=lambda: call.module(*call.args, **call.kwargs)[0])
    assumed = chunks.measured(bench("qwen3.5")[1].ggml).assumed
    assert assumed is not None and steps.assumed is not None and assumed > 5 * steps.assumed


@pytest.mark.parametrize("keys", [128, 512])
def test_flash_attention_of_one_query_errs_as_a_sum_in_float16(keys: int) -> None:
    random = np.random.default_rng(keys)
    query = random.normal(size=(4, 1, 64)).astype(np.float32)
    key, value = random.normal(size=(2, 4, keys, 64)).astype(np.float16)
    weights = np.exp(query.astype(np.float64) @ key.swapaxes(1, 2).astype(np.float64) / 8)
    right = (weights / weights.sum(-1, keepdims=True) @ value.astype(np.float64)).swapaxes(0, 1)
    given = {"query": query, "key": key, "value": value, "scale": 0.125}
    apart, at_once = (
        relative(function(bench("llama3")[1].ggml, **given) - right, right)
        for function in (plain.attended, plain.attended_at_once)
    )
    assert 0.75 < at_once / (0.72 * 2**-10 * (keys / 24) ** 0.5) < 1.33 and at_once > 3 * apart


FAULTS: list[tuple[str, tuple[str, str, str], dict[str, Any]]] = [
    ("llama3", ("norm", "input_layernorm", "F32"), {"eps": 1e-6}),
    ("qwen3.5", ("norm", "q_norm", "F32"), {"weight": np.ones(64, np.float32)}),
    ("llama3", ("rope", "query at 0", "F32"), {"base": 10000.0}),
    ("llama3", ("rope", "query at 0", "F32"), {"factors": None}),
    ("qwen3.5", ("rope", "query at 0", "F32"), {"count": 64}),
    ("llama3", ("attention", "unfused", "F32"), {"scale": 0.126}),
    ("qwen3-moe", ("attention", "flash", "F16"), {"scale": 0.5}),
]


@pytest.mark.parametrize(("family", "key", "fault"), FAULTS, ids=lambda one: "-".join(one) if not isinstance(one, str) else one)
def test_a_kernel_that_is_told_something_wrong_stands_out(
    family: str, key: tuple[str, str, str], fault: dict[str, Any]
) -> None:
    case = cases(family)[key]
    wrong: Callable[..., np.ndarray] = partial(case.computed, **fault)
    assert rms(family, replace(case, computed=wrong)) > 100 * measured(family)[key].rms


def test_weights_of_another_type_stand_out() -> None:
    key, (torch_side, ggml) = ("matmul", "q_proj", "Q8_0"), bench("llama3")
    call = next(one for one in torch_side.calls if one.name == "q_proj")
    other = weighted.matmul(call, "Q4_0", ggml.ggml)
    assert rms("llama3", replace(cases("llama3")[key], computed=other.computed)) > 10 * measured("llama3")[key].rms


def test_a_router_that_does_not_normalize_stands_out() -> None:
    torch_side, ggml = bench("qwen3-moe")
    block, router = (next(one for one in torch_side.calls if one.kind == kind) for kind in ("MoE", "router"))
    experts = weighted.Experts(block, router)
    experts.normalized = False
    for case, key in ((experts.routed(), ("router", "gate", "F32")), (experts.whole("F32", ggml.ggml), ("MoE", "mlp", "Q8_0"))):
        assert rms("qwen3-moe", case) > 10 * measured("qwen3-moe")[key].rms


def test_rows_that_are_no_whole_blocks_have_the_type_that_a_file_has_there() -> None:
    kernels = GgmlKernels(bench("qwen3-moe")[0])
    rows = {(one.kind, one.name, one.precision): one for one in kernels.measure("Q4_K_M")}
    types = {(kind, name): {row[2] for row in rows if row[:2] == (kind, name)} for kind, name, _ in rows}
    assert types["experts", "gate_up_proj"] == {"Q4_K", "Q6_K"} == types["MoE", "mlp"]
    assert types["experts", "down_proj"] == {"Q5_0", "Q8_0"}
    assert all(0.9 < (one.assumed or 0) / one.rms < 1.1 for one in rows.values())
    assert not kernels.measure("Q4_K_S"), "what was measured is not measured twice"


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("IQ3_S", ["IQ3_S", "IQ4_NL", "F16"]),
        ("TQ2_0", ["TQ2_0", "Q4_0", "F16"]),
        ("NVFP4", ["NVFP4", "NVFP4", "F16"]),
        ("MXFP4", ["MXFP4", "MXFP4", "F16"]),
    ],
)
def test_a_type_is_given_rows_of_its_own_blocks_alone(kind: str, types: list[str]) -> None:
    assert [weighted.type_for(columns, kind) for columns in (256, 192, 100)] == types


@pytest.mark.parametrize("kind", ["IQ3_S", "TQ2_0", "MXFP4"])
def test_a_matrix_in_any_type_errs_by_its_activations(kind: str) -> None:
    kernels = bench("llama3")[1]
    found = [case.measured(kernels.ggml) for case in kernels.weighted(kind) if case.kind == "matmul"]
    assert found and {one.precision for one in found} >= {kind}
    assert [one for one in found if one.precision == kind and not 1 / FACTOR < one.assumed / one.rms < FACTOR] == []


def test_a_type_that_wants_an_importance_matrix_is_refused_and_ends_nothing() -> None:
    with pytest.raises(Refusal, match="IQ2_XXS is not quantized without"):
        list(bench("llama3")[1].weighted("IQ2_XXS"))


def test_the_formats_of_activations_are_those_of_ggml_s_own_table() -> None:
    source = Path(os.environ.get("LOGITPROOF_LLAMA_CPP_SOURCE", ROOT / ".cache/llama.cpp")) / "ggml/src/ggml-cpu/ggml-cpu.c"
    if not source.is_file():
        pytest.skip(f"llama.cpp's source is not at {source}")
    table = source.read_text("utf-8").partition("type_traits_cpu[GGML_TYPE_COUNT] = {")[2].partition("\n};")[0]
    pairs = re.findall(r"\[GGML_TYPE_(\w+)\] = \{[^}]*?vec_dot_type += GGML_TYPE_(\w+),", table)
    formats = {"Q8_0": "q8_0", "Q8_1": "q8_0", "Q8_K": "q8_k", "F16": "f16", "BF16": "bf16", "F32": None}
    known = {kind: formats[dot] for kind, dot in pairs if kind in ACTIVATIONS}
    assert known == dict(ACTIVATIONS)


def test_every_type_that_has_a_format_of_activations_can_be_dequantized() -> None:
    blocks = {kind: np.zeros((1, GGML_QUANT_SIZES[GGMLQuantizationType[kind]][1]), np.uint8) for kind in ACTIVATIONS}
    assert {
        kind: dequantize(block, GGMLQuantizationType[kind]).any() for kind, block in blocks.items()
    }.keys() == ACTIVATIONS.keys()


def test_a_rope_scaling_that_is_not_built_is_said_to_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = GgmlKernels(bench("llama3")[0])
    monkeypatch.setitem(bench("llama3")[0].model.config.rope_parameters, "rope_type", "yarn")
    assert "rope" not in {case.kind for case in kernels.plain()}
    assert [(one["kind"], "yarn" in one["reason"]) for one in kernels.missing] == [("rope", True)]


def test_kernels_on_avx2_are_those_of_a_backend_without_avx512() -> None:
    folder = ROOT / ".cache/isa/x86_64"
    if reason := isa.lacking("avx2"):
        pytest.skip(reason)
    if not (folder / "libggml-cpu-haswell.so").exists():
        pytest.skip("`make isa` builds llama.cpp for every instruction set, and was not run")
    found = kernels_isa.measure_on("avx2", ROOT / "zoo/llama3", ["bfloat16"], ["Q8_0"], folder)
    said = found["evidence"]["isa.features of CPU"].split()
    assert "AVX2" in said and not any(one.startswith(("AVX512", "AMX")) for one in said)
    assert found["isa"]["backend"] == "libggml-cpu-haswell.so" and found["pinned_to"] == "avx2"
    assert {one["kind"] for one in found["kernels"] if one["engine"] == "ggml"} == DENSE


def test_a_backend_that_is_not_what_its_name_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / ".cache/isa/x86_64"
    if reason := isa.lacking("avx512"):
        pytest.skip(reason)
    if not (folder / "libggml-cpu-skylakex.so").exists():
        pytest.skip("`make isa` builds llama.cpp for every instruction set, and was not run")
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file.resolve())
    (tmp_path / "libggml-cpu-haswell.so").unlink()
    (tmp_path / "libggml-cpu-haswell.so").write_bytes((folder / "libggml-cpu-skylakex.so").read_bytes())
    monkeypatch.setattr(kernels_isa, "_said_by_torch", lambda *given: {})
    with pytest.raises(ContractError, match="asked for avx2, dispatched something else"):
        kernels_isa.measure_on("avx2", ROOT / "zoo/llama3", ["bfloat16"], ["Q8_0"], tmp_path)
