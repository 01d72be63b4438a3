"""Dumps of ranks, stages and paged caches become the one tensor that the reference has, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from logitproof.errors import ContractError
from logitproof.localization.tap_dump import open_tap_dump

T, H, K, D, E = 10, 6, 2, 4, 8
RANDOM = np.random.default_rng(0)


def dump(folder: Path, taps: dict[str, Any], arrays: dict[str, np.ndarray], **more: Any) -> Path:
    for name, values in arrays.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, values.astype(np.float32))
    mapping = {"token_ids": list(range(T)), "taps": taps, **more}
    (folder / "taps.yaml").write_text(yaml.safe_dump(mapping), "utf-8")
    return folder


def values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("tap", "join", "shape", "axis"),
    [
        ("layers.0.attn.q_rope", "heads", (T, H, D), 1),
        ("layers.0.attn.q_proj", "heads", (T, H * D), 1),
        ("layers.0.attn.probs", "heads", (H, T, T), 0),
        ("layers.0.attn.probs", "positions", (H, T, T), 1),
        ("layers.0.mlp.up", "features", (T, E), 1),
        ("layers.0.moe.router", "experts", (T, E), 1),
        ("layers.0.out", "positions", (T, E), 0),
        ("logits", "vocabulary", (T, E), 1),
        ("logits", 1, (T, E), 1),
    ],
)
def test_ranks_are_joined_along_the_dimension_that_is_named(
    tmp_path: Path, tap: str, join: Any, shape: tuple[int, ...], axis: int
) -> None:
    whole = values(*shape)
    parts = np.split(whole, 2, axis=axis)
    folder = dump(
        tmp_path, {tap: {"file": "rank{rank}/t.npy", "join": join}}, {f"rank{n}/t.npy": part for n, part in enumerate(parts)}
    )
    assert np.array_equal(open_tap_dump(folder).taps[tap], whole)


def test_more_than_nine_ranks_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    whole = values(T, 24)
    files = {f"{n}.npy": part for n, part in enumerate(np.split(whole, 12, axis=1))}
    folder = dump(tmp_path, {"logits": {"file": "{rank}.npy", "join": "vocabulary"}}, files)
    assert np.array_equal(open_tap_dump(folder).taps["logits"], whole)


def test_parts_are_summed_and_copies_are_compared(tmp_path: Path) -> None:
    first, second = values(T, E), values(T, E)
    taps = {
        "layers.{layer}.moe.out": {"file": "{rank}-moe-{layer}.npy", "join": "sum"},
        "norm": {"file": "{rank}-norm.npy", "join": "same"},
    }
    files = {"0-moe-0.npy": first, "1-moe-0.npy": second, "0-norm.npy": first, "1-norm.npy": first}
    found = open_tap_dump(dump(tmp_path, taps, files)).taps
    assert np.allclose(found["layers.0.moe.out"], first + second) and np.array_equal(found["norm"], first)
    np.save(tmp_path / "1-norm.npy", first * np.float32(1.01))
    with pytest.raises(ContractError, match="rank 1 differs from rank 0 by 0.01"):
        open_tap_dump(tmp_path)


def test_layers_of_a_pipeline_stage_are_counted_on_from_its_first(tmp_path: Path) -> None:
    whole = {f"pp{stage}/{rank}/{layer}.npy": values(T, E) for stage in (0, 1) for rank in (0, 1) for layer in (0, 1)}
    taps = {"layers.{layer}.mlp.up": {"file": "pp{stage}/{rank}/{layer}.npy", "join": "features"}}
    found = open_tap_dump(dump(tmp_path, taps, whole, stages={0: 0, 1: 2})).taps
    assert sorted(found) == [f"layers.{layer}.mlp.up" for layer in range(4)]
    right = np.concatenate([whole["pp1/0/1.npy"], whole["pp1/1/1.npy"]], axis=1)
    assert np.array_equal(found["layers.3.mlp.up"], right)


def test_ranks_may_be_arrays_of_one_file(tmp_path: Path) -> None:
    whole = values(T, E)
    np.savez(tmp_path / "all.npz", **{f"rank.{n}.out.3": part for n, part in enumerate(np.split(whole, 2, axis=1))})
    tap = {"file": "all.npz", "array": "rank.{rank}.out.{layer}", "join": "features"}
    found = open_tap_dump(dump(tmp_path, {"layers.{layer}.out": tap}, {})).taps
    assert list(found) == ["layers.3.out"] and np.array_equal(found["layers.3.out"], whole)


def test_a_paged_cache_is_read_through_its_block_table(tmp_path: Path) -> None:
    block, keys, other = 4, values(T, K, D), values(T, K, D)
    pages, fused = [5, 0, 3], np.zeros((2, 7, block, K, D), np.float32)
    for position in range(T):
        place = pages[position // block], position % block
        fused[0][place], fused[1][place] = keys[position], other[position]
    taps = {
        "layers.{layer}.cache.k": {"file": "kv-{layer}.npy", "index": 0, "pages": pages},
        "layers.{layer}.cache.v": {"file": "kv-{layer}.npy", "index": 1, "pages": pages},
    }
    found = open_tap_dump(dump(tmp_path, taps, {"kv-0.npy": fused})).taps
    assert np.array_equal(found["layers.0.cache.k"], keys) and np.array_equal(found["layers.0.cache.v"], other)
    slots = [pages[position // block] * block + position % block for position in range(T)]
    tap = {"file": "flat.npy", "shape": [-1, K, D], "slots": slots}
    found = open_tap_dump(dump(tmp_path, {"layers.0.cache.k": tap}, {"flat.npy": fused[0]})).taps
    assert np.array_equal(found["layers.0.cache.k"], keys)


@pytest.mark.parametrize(
    ("tap", "files", "more", "text"),
    [
        ({"file": "{rank}.npy"}, ("0.npy", "1.npy"), {}, "nothing says how they are one"),
        ({"file": "{rank}-{layer}.npy", "join": "features"}, ("0-0.npy", "1-0.npy", "1-1.npy"), {}, "no file of rank 0"),
        ({"file": "{stage}/{layer}.npy"}, ("0/0.npy",), {}, "whose first layer is not said"),
        ({"file": "{stage}/{layer}.npy"}, ("0/1.npy", "1/0.npy"), {"stages": {0: 0, 1: 1}}, "claim one place"),
        ({"file": "0-{layer}.npy", "pages": [99]}, ("0-0.npy",), {}, "fewer entries than an index names"),
        ({"file": "0-{layer}.npy", "join": "sideways"}, ("0-0.npy",), {}, "join"),
        ({"file": "{rank}-{layer}.npy", "join": 7}, ("0-0.npy", "1-0.npy"), {}, "axis 7 is out of bounds"),
    ],
)
def test_pieces_that_make_no_whole_are_refused(
    tmp_path: Path, tap: dict[str, Any], files: tuple[str, ...], more: dict[str, Any], text: str
) -> None:
    name = "layers.{layer}.out" if "{layer}" in tap["file"] else "norm"
    folder = dump(tmp_path, {name: tap}, {file: values(T, E) for file in files}, **more)
    with pytest.raises(ContractError) as error:
        open_tap_dump(folder)
    assert text in str(error.value)
