"""Accumulated and isolated errors, layouts, who stands apart: laws of localization without any engine."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from logitproof.errors import ContractError, LogitproofError
from logitproof.localization.layout import explained_by_layout
from logitproof.localization.localize import expected, first_odd, localize, relative, stages
from logitproof.localization.tap_dump import open_tap_dump
from logitproof.localization.tap_files import LLAMA_CPP
from logitproof.protocol import taps

T, H, K, D = 9, 4, 2, 8
NAMES = ("embedding", "layers.0.attn_norm", "layers.0.attn.q_proj", "layers.0.attn.q_rope", "layers.0.out", "logits")


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"layers.0.attn.q_proj": (T, H * D), "layers.0.attn.q_rope": (T, H, D)}
    return {name: random.standard_normal(shapes.get(name, (T, 12))).astype(np.float32) for name in NAMES}


def test_the_same_tensors_are_the_same() -> None:
    found = localize(arrays(), arrays(), arrays())
    assert found.verdict == "same"
    assert found.first is None
    assert [row.tap for row in found.rows] == sorted(NAMES, key=taps.order)


@given(st.sampled_from(NAMES), st.floats(1e-3, 10))
def test_only_the_operation_that_differs_on_its_own_input_is_broken(name: str, by: float) -> None:
    """Everything after it is carried along: the reference's operations agree with it on its own input."""
    right = arrays()
    wrong = {one: values if taps.order(one) < taps.order(name) else values * (1 + by) for one, values in arrays(0).items()}
    own = {one: right[one] if one == name else wrong[one] for one in NAMES}
    found = localize(right, wrong, own)
    assert found.broken == [name]
    assert {row.status for row in found.rows if taps.order(row.tap) > taps.order(name)} <= {"carried"}


def test_three_bugs_are_three_findings() -> None:
    right, names = arrays(), ("embedding", "layers.0.attn.q_proj", "logits")
    wrong = {one: values + (0.1 if one in names else 0) for one, values in right.items()}
    assert localize(right, wrong, right).broken == list(names)


def test_without_a_replay_errors_are_only_accumulated() -> None:
    wrong = arrays() | {"layers.0.out": arrays()["layers.0.out"] * 2}
    found = localize(arrays(), wrong, None)
    assert found.verdict == "only accumulated"
    assert found.first == "layers.0.out"


def test_nothing_in_common_is_no_agreement() -> None:
    assert localize({"norm": np.ones((2, 2))}, {"embedding": np.ones((2, 2))}, {}).verdict == "nothing compared"


def test_another_shape_differs_and_says_so() -> None:
    wrong = arrays() | {"logits": np.zeros((T, 13), np.float32)}
    row = localize(arrays(), wrong, arrays()).rows[-1]
    assert row.status == "differs"
    assert "[9, 13]" in row.suspicion


def test_a_sum_of_another_size_differs_and_ends_nothing() -> None:
    right = arrays() | {"layers.0.residual": np.ones((T, 12), np.float32)}
    wrong = right | {"layers.0.residual": np.ones((T, 24), np.float32)}
    differing = [row.tap for row in localize(right, wrong, right).rows if row.status == "differs"]
    assert differing == ["layers.0.residual"]


def test_a_sum_that_is_wrong_once_is_blamed_once() -> None:
    """The replay carries its own residual stream, so the layer's output must be judged on the candidate's sum."""
    right = {"layers.0.residual": np.ones((T, 4)), "layers.0.out": np.full((T, 4), 3.0)}
    wrong = {"layers.0.residual": np.full((T, 4), 1.5), "layers.0.out": np.full((T, 4), 3.5)}
    replayed = {"layers.0.residual": np.ones((T, 4)), "layers.0.out": np.full((T, 4), 3.0)}
    assert localize(right, wrong, replayed).broken == ["layers.0.residual"]


def test_an_expert_chosen_otherwise_is_one_finding_and_not_one_of_weights_too() -> None:
    index = np.array([[0, 1]] * T)
    right = {"layers.0.moe.index": index, "layers.0.moe.weights": np.full((T, 2), 0.5)}
    other, weights = index.copy(), right["layers.0.moe.weights"].copy()
    other[3], weights[3] = (0, 2), (0.9, 0.1)
    assert localize(right, {"layers.0.moe.index": other, "layers.0.moe.weights": weights}, right).broken == [
        "layers.0.moe.index"
    ]


def test_layers_without_taps_are_named_where_the_next_tap_is_wrong() -> None:
    right = {f"layers.{n}.out": np.full((T, 3), n + 1.0) for n in range(3)} | {"norm": np.ones((T, 3))}
    wrong = {name: values for name, values in right.items() if "layers.2" not in name} | {"norm": np.full((T, 3), 1.2)}
    found = localize(right, wrong, right)
    assert found.first == "norm"
    assert "layer 2" in found.rows[-1].suspicion


def test_bounds_grow_with_coarser_arithmetic() -> None:
    for leaf in taps.LAYER:
        bounds = [expected(leaf, one) for one in ("float32", "float16", "bfloat16", "quantized")]
        assert bounds == sorted(bounds)


@given(st.integers(0, 50))
def test_a_relative_error_is_that_of_norms_and_of_nothing_else(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((5, 6))
    assert relative(values * 1.25, values, "out") == pytest.approx(0.25)
    assert relative(np.full_like(values, np.nan), values, "out") == np.inf


def test_scores_of_later_keys_do_not_count() -> None:
    right = np.tril(np.ones((2, 4, 4)))
    assert relative(right + np.triu(np.ones((4, 4)), 1) * 7, right, "attn.scores") == 0.0


LAYOUTS = {
    "rotary pairs are neighbours where halves belong": lambda q: np.stack(np.split(q, 2, axis=-1), -1).reshape(q.shape),
    "heads are in reverse order": lambda q: q[:, ::-1],
    "heads of a group are tiled where they belong together": lambda q: (
        q.reshape(T, K, H // K, D).swapaxes(1, 2).reshape(q.shape)
    ),
    "row t holds position t - 1": lambda q: np.concatenate([q[:1], q[:-1]]),
    "its sign is turned": lambda q: -q,
    "it is 2.5 times the right one": lambda q: 2.5 * q,
}  # fmt: skip


@pytest.mark.parametrize("text", LAYOUTS)
def test_a_layout_is_recognized(text: str) -> None:
    q = np.random.default_rng(3).standard_normal((T, H, D))
    q[-1] = q[-2]  # nobody knows the row after the last
    right = {"layers.0.attn.q_rope": q, "layers.0.attn.k_rope": np.zeros((T, K, D))}
    assert explained_by_layout("layers.0.attn.q_rope", LAYOUTS[text](q), right, 1e-6) == text


def test_a_tensor_that_is_another_one_is_called_by_its_name() -> None:
    random = np.random.default_rng(1)
    right = {"layers.1.mlp.gate": random.standard_normal((T, 5)), "layers.1.mlp.up": random.standard_normal((T, 5))}
    assert explained_by_layout("layers.1.mlp.gate", right["layers.1.mlp.up"], right, 1e-6) == "it is layers.1.mlp.up"
    assert explained_by_layout("layers.1.mlp.gate", random.standard_normal((T, 5)), right, 1e-6) == ""


def test_of_three_the_one_that_stands_apart_is_named_where_it_begins() -> None:
    wrong = {
        one: values * (1.0 if taps.order(one) < taps.order("layers.0.attn.q_rope") else 1.5) for one, values in arrays().items()
    }
    found = stages({"hf": arrays(), "fused": wrong, "simple": arrays()})
    first = first_odd(found)
    assert first is not None
    assert (first.tap, first.odd) == ("layers.0.attn.q_rope", "fused")
    assert stages({"hf": arrays(), "fused": wrong}) == []


def test_of_three_that_all_differ_nobody_is_blamed() -> None:
    first = first_odd(stages({"a": arrays(0), "b": arrays(1), "c": arrays(2)}))
    assert first is not None
    assert first.odd == ""


def dump(folder: Path, tap: dict[str, object], values: np.ndarray, name: str = "layers.{layer}.attn.q_rope") -> Path:
    np.save(folder / "q-0.npy", values)
    (folder / "taps.yaml").write_text(yaml.safe_dump({"token_ids": list(range(T)), "taps": {name: tap}}), "utf-8")
    return folder


def test_a_dump_is_brought_to_the_canonical_layout(tmp_path: Path) -> None:
    q = np.random.default_rng(0).standard_normal((T, H, D)).astype(np.float32)
    interleaved = np.stack([q[..., : D // 2], q[..., D // 2 :]], -1).reshape(q.shape)
    order = [2, 0, 3, 1]
    stored = interleaved[:, np.argsort(order)].transpose(1, 0, 2)
    tap = {"file": "q-{layer}.npy", "transpose": [1, 0, 2], "heads": order, "pairs": "neighbours"}
    found = open_tap_dump(dump(tmp_path, tap, stored))
    assert np.array_equal(found.taps["layers.0.attn.q_rope"], q)


@pytest.mark.parametrize(
    ("tap", "values", "said"),
    [
        ({"file": "missing-{layer}.npy"}, np.zeros((T, H, D)), "there is no file"),
        ({"file": "q-{layer}.npy", "shape": [T, 5, 5]}, np.zeros((T, H, D)), "288 numbers do not fill the shape"),
        ({"file": "q-{layer}.npy"}, np.zeros((T + 1, H, D)), f"{T} positions belong at axis 0"),
        ({"file": "q-{layer}.npy"}, np.full((T, H, D), np.nan), "holds nan"),
        ({"file": "q-0.npy"}, np.zeros((T, H, D)), "one file for all layers"),
        ({"file": "q-{layer}.npy", "sorted": True}, np.zeros((T, H, D)), "sorted"),
    ],
)
def test_a_bad_dump_is_refused_with_its_reason(tmp_path: Path, tap: dict[str, object], values: np.ndarray, said: str) -> None:
    with pytest.raises(ContractError) as error:
        open_tap_dump(dump(tmp_path, tap, values))
    assert said in str(error.value)


def test_a_tap_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is no tap"):
        open_tap_dump(dump(tmp_path, {"file": "q-{layer}.npy"}, np.zeros((T, H, D)), "layers.{layer}.attention.query"))


def test_an_aprt_file_and_raw_numbers_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((T, 6)).astype("<f4")
    (tmp_path / "a.aprt").write_bytes(b"APRT" + (0).to_bytes(4, "little") + (6).to_bytes(4, "little") + values.tobytes())
    (tmp_path / "b.f32").write_bytes(values.tobytes())
    mapping = {
        "token_ids": list(range(T)),
        "taps": {"layers.0.out": {"file": "a.aprt"}, "norm": {"file": "b.f32", "shape": [-1, 6]}},
    }
    (tmp_path / "taps.yaml").write_text(yaml.safe_dump(mapping), "utf-8")
    found = open_tap_dump(tmp_path).taps
    assert np.array_equal(found["layers.0.out"], values)
    assert np.array_equal(found["norm"], values)


def mapped(folder: Path, **mapping: object) -> Path:
    (folder / "taps.yaml").write_text(yaml.safe_dump({"token_ids": list(range(T)), **mapping}), "utf-8")
    return folder


def layers(seed: int = 0, count: int = 3) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((count, T, 6)).astype("<f4"))


def aprt(values: np.ndarray, layer: int) -> bytes:
    return b"APRT" + layer.to_bytes(4, "little") + values.shape[1].to_bytes(4, "little") + values.tobytes()


def test_one_stage_file_may_hold_every_layer(tmp_path: Path) -> None:
    values = layers()
    for number, one in enumerate(values):
        (tmp_path / f"{number}.aprt").write_bytes(aprt(one, number))
    found = open_tap_dump(mapped(tmp_path, taps={"layers.{layer}.out": {"file": "{layer}.aprt"}})).taps
    assert all(np.array_equal(found[f"layers.{number}.out"], one) for number, one in enumerate(values))
    (tmp_path / "all.aprt").write_bytes(b"".join(aprt(one, number) for number, one in enumerate(values)))
    np.savez(tmp_path / "all.npz", **{f"stage.{number}": one for number, one in enumerate(values)})
    for tap in ({"file": "all.aprt"}, {"file": "all.npz", "array": "stage.{layer}"}):
        every = open_tap_dump(mapped(tmp_path, taps={"layers.{layer}.out": tap})).taps
        assert every.keys() == found.keys() and all(np.array_equal(every[name], found[name]) for name in found)


def test_a_logits_file_gives_token_ids_and_logits(tmp_path: Path) -> None:
    logits = layers()[0]
    header = b"APRRAWLG" + np.array([1, T, 6], "<i4").tobytes() + np.arange(T, dtype="<i4").tobytes()
    (tmp_path / "run.bin").write_bytes(header + logits.tobytes())
    found = open_tap_dump(mapped(tmp_path, token_ids="run.bin", taps={"logits": {"file": "run.bin"}}))
    assert found.token_ids == list(range(T)) and np.array_equal(found.taps["logits"], logits)


NAMED = {"blk.0.attn_q": "layers.0.attn.q_proj", "blk.11.ffn_down.weight": "layers.11.mlp.out", "output_norm": "norm"}


@pytest.mark.parametrize("kind", ["safetensors", "gguf", "npz"])
def test_tensors_that_have_the_names_of_llama_cpp_need_no_mapping(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"all.{kind}"
    tensors = {**dict(zip(NAMED, layers(), strict=True)), "blk.0.kq_mask": layers(1)[0]}
    if kind == "gguf":
        writer = gguf.GGUFWriter(file, "dump")
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    elif kind == "npz":
        np.savez(file, **tensors)
    else:
        save_file(tensors, file)
    found = open_tap_dump(mapped(tmp_path, files={file.name: "llama.cpp"})).taps
    assert sorted(found) == sorted(NAMED.values())
    assert all(np.array_equal(found[tap], tensors[name]) for name, tap in NAMED.items())


def test_every_name_of_llama_cpp_is_a_tap() -> None:
    assert all(taps.is_known(f"layers.0.{tap}") or taps.is_known(tap) for tap in LLAMA_CPP.values())


def test_an_importance_matrix_is_not_taken_for_taps(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "imatrix.gguf", "imatrix")
    writer.add_tensor("blk.0.attn_q.weight.in_sum2", np.ones((1, 6), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ContractError, match="importance matrix"):
        open_tap_dump(mapped(tmp_path, files={"imatrix.gguf": "llama.cpp"}))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"taps": {}}, "names no tap"),
        ({"files": {"all.npz": "canonical"}}, "none is a canonical name"),
        ({"files": {"gone.npz": "llama.cpp"}}, "there is no such file"),
        ({"taps": {"norm": {"file": "all.npz"}}}, "name one as `array`"),
        ({"taps": {"norm": {"file": "all.npz", "array": "c"}}}, "not c"),
        ({"taps": {"layers.{layer}.out": {"file": "all.npz", "array": "stage-{layer}"}}}, "called stage-{layer}"),
        ({"taps": {"norm": {"file": "cut.aprt"}}}, "cut.aprt"),
        ({"taps": {"norm": {"file": "odd.bin", "shape": [-1, 6]}}}, "no float32 numbers"),
        ({"token_ids": "all.npz", "taps": {"norm": {"file": "all.npz", "array": "a"}}}, "is no list of token ids"),
    ],
)
def test_a_mapping_that_leads_nowhere_is_refused(tmp_path: Path, mapping: dict[str, object], said: str) -> None:
    np.savez(tmp_path / "all.npz", a=layers()[0], b=layers()[1])
    (tmp_path / "cut.aprt").write_bytes(aprt(layers()[0], 0)[:-2])
    (tmp_path / "odd.bin").write_bytes(b"12345")
    with pytest.raises(LogitproofError) as error:
        open_tap_dump(mapped(tmp_path, **mapping))
    assert said in str(error.value)
