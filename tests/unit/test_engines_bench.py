"""The benchmark of engines: what it knows is kept and not measured again, and what MLX's format means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAME = {"engine": "plain", "family": "qwen3", "probe": None, "quantization": "Q8_0", "mode": "prefill"}
CELL = {**NAME, "version": "1", "kl_divergence_mean": 1e-12, "top1": 1.0, "status": "PASS", "cause": "", "identity": "abc"}


@pytest.fixture
def known(module_of: Callable[[Path], Any], tmp_path: Path) -> Any:
    return module_of(BENCHMARKS / "_engines_kept.py").Known(tmp_path / "engines.json")


def test_a_cell_is_known_by_what_it_was_measured_with(known: Any) -> None:
    name = {"engine": "plain", "probe": None, "quantization": "Q8_0"}
    known.put(name, [CELL])
    assert known.has(name, "abc", "1") and not known.has(name, "abd", "1")
    assert not known.has({**name, "quantization": "Q4_0"}, "abc", "1")


def test_cells_of_an_engine_that_is_measured_again_take_the_place_of_its_own_alone(known: Any) -> None:
    known.put({"engine": "plain", "quantization": "Q8_0"}, [CELL])
    known.put({"engine": "plain", "quantization": "Q4_0"}, [{**CELL, "quantization": "Q4_0"}])
    known.put({"engine": "plain", "quantization": "Q8_0"}, [{**CELL, "status": "FAIL"}])
    assert [(cell["quantization"], cell["status"]) for cell in known.cells()] == [("Q4_0", "PASS"), ("Q8_0", "FAIL")]


def test_a_file_from_before_the_axes_is_read_and_its_cells_are_known_by_their_version(
    module_of: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "engines.json"
    older = {key: value for key, value in CELL.items() if key not in ("probe", "quantization", "identity")}
    path.write_text(json.dumps({"cells": [older]}), "utf-8")
    known = module_of(BENCHMARKS / "_engines_kept.py").Known(path)
    name = {"engine": "plain", "probe": None, "quantization": "original"}
    assert known.has(name, "anything", "1") and not known.has(name, "anything", "2")


def test_the_page_shows_the_worst_of_several_cells(module_of: Callable[[Path], Any]) -> None:
    page = module_of(BENCHMARKS / "_engines_page.py")
    wrong = {**CELL, "status": "FAIL", "kl_divergence_mean": 0.5}
    silent = {**CELL, "status": "ERROR", "kl_divergence_mean": None}
    assert page.entry([CELL, wrong]) == page.entry([wrong, CELL]) == "**FAIL** 5.0e-01"
    assert page.entry([CELL, silent]) == "error 1.0e-12"
    assert page.entry([]) == ""


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_of_mlx_lie_in_words_from_the_lowest_bits_on(module_of: Callable[[Path], Any], bits: int) -> None:
    own = module_of(BENCHMARKS / "_engines_own.py")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**bits, (3, 128)).astype(np.uint32)
    scales, biases = rng.random((2, 3, 2), np.float32)
    words = np.zeros((3, 128 * bits // 32), np.uint32)
    for column in range(128):
        words[:, column * bits // 32] |= codes[:, column] << np.uint32(column * bits % 32)
    plain = own.dequantized({"a.weight": words, "a.scales": scales, "a.biases": biases, "n.weight": biases}, bits)
    assert set(plain) == {"a.weight", "n.weight"}
    np.testing.assert_array_equal(plain["a.weight"][1, 70], scales[1, 1] * codes[1, 70].astype(np.float32) + biases[1, 1])
    assert plain["a.weight"].shape == (3, 128) and plain["a.weight"].dtype == np.float32
