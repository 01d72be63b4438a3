"""The diagnosis names the bug that was planted, says when two cannot be told apart, and never names a wrong one alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from planted import build, config

from logitproof import catalog
from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.text import sentence
from logitproof.errors import ContractError
from logitproof.rows.top import top_rows

IDS = [np.random.default_rng(seed).integers(3, 1000, 48).tolist() for seed in (1, 2)]


def logits(family: str, bugs: Sequence[tuple[str, dict[str, Any]]], noise: float = 0.0) -> list[np.ndarray]:
    """What an engine with these bugs gives, with noise of that RMS."""
    model, rng = build(family), np.random.default_rng(9)
    ids = [[token % config(family).vocab_size for token in one] for one in IDS]
    with ExitStack() as stack, torch.inference_mode():
        for name, options in bugs:
            stack.enter_context(catalog.load("mutations", name)(**options).applied_to(model))
        rows = [model(torch.tensor([one]), use_cache=False).logits[0].numpy() for one in ids]
    return [row + rng.normal(0, noise, row.shape) if noise else row for row in rows]


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("qwen3", "rope.pairing.interleaved"),
        ("qwen3", "norm.qk_missing"),
        ("llama3", "attention.mask_sees_next"),
        ("qwen2.5", "weights.bias_dropped"),
        ("qwen3-moe", "moe.topk_norm_missing"),
        ("qwen3.5", "deltanet.decay_missing"),
    ],
)
def test_the_bug_is_among_what_is_named(family: str, name: str) -> None:
    found = diagnose_logits(build(family), IDS, logits(family, [(name, {})], 0.01), noise=0.01)
    assert found.verdict in ("named", "ambiguous") and name in found.names
    assert found.remedies and found.positions and found.to_reference > 3 * found.mutants[0].distance


def best(rows: np.ndarray, count: int) -> np.ndarray:
    """What a server that gives its best entries would give of these rows."""
    log_p = rows - np.logaddexp.reduce(rows.astype(np.float64), axis=1, keepdims=True)
    ids = np.argsort(-log_p, axis=1)[:, :count]
    return top_rows(ids, np.take_along_axis(log_p, ids, axis=1))


def test_twenty_log_probabilities_of_a_position_name_the_bug_too() -> None:
    wrong = [best(rows, 20) for rows in logits("llama3", [("attention.mask_sees_next", {})])]
    found = diagnose_logits(build("llama3"), IDS, wrong)
    assert found.names == ["attention.mask_sees_next"]
    right = [best(rows, 20) for rows in logits("llama3", [])]
    assert diagnose_logits(build("llama3"), IDS, right).verdict == "same"


def test_the_chosen_token_alone_tells_no_bug_from_another() -> None:
    with pytest.raises(ContractError, match="log-probabilities of two tokens"):
        diagnose_logits(build("llama3"), IDS, [best(rows, 1) for rows in logits("llama3", [])])


def test_a_value_that_no_grid_holds_is_found() -> None:
    found = diagnose_logits(build("qwen3"), IDS, logits("qwen3", [("rope.base", {"base": 250_000.0})]))
    assert found.names == ["rope.base"] and found.mutants[0].options["base"] == pytest.approx(250_000, rel=0.01)


@pytest.mark.parametrize(
    ("family", "name", "option", "size"),
    [
        ("gemma3", "attention.window_size", "window", 11),
        ("gemma3", "attention.window_size", "window", 33),
        ("mistral", "attention.window_size", "window", 3),
        ("qwen3", "attention.window_invented", "window", 13),
        ("llama4", "attention.chunk_size", "size", 7),
    ],
)
def test_a_size_that_is_in_no_grid_is_named_as_a_whole_number(family: str, name: str, option: str, size: int) -> None:
    assert size not in catalog.load("mutations", name).grid[option]
    ids = [[token % config(family).vocab_size for token in one] for one in IDS]
    found = diagnose_logits(build(family), ids, logits(family, [(name, {option: size})]))
    assert found.names == [name] and found.mutants[0].options == {option: size}
    assert found.mutants[0].uncertainty == {option: 0.0}


def test_two_bugs_are_found_together() -> None:
    both = [("norm.final_missing", {}), ("mlp.relu_for_silu", {})]
    found = diagnose_logits(build("qwen3"), IDS, logits("qwen3", both))
    assert found.verdict == "two bugs" and set(found.names) == {name for name, _ in both}


def test_a_right_engine_is_the_same() -> None:
    assert diagnose_logits(build("qwen3"), IDS, logits("qwen3", [])).verdict == "same"
    assert diagnose_logits(build("qwen3"), IDS, logits("qwen3", [], 0.01), noise=0.01).verdict == "same"


def test_what_the_library_does_not_know_is_unexplained() -> None:
    wrong = [row[:, ::-1] for row in logits("qwen3", [])]
    found = diagnose_logits(build("qwen3"), IDS, wrong)
    assert found.verdict == "unexplained" and found.names == [] and "no known bug" in sentence(found)


TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "percentages": lambda z: 100 * np.exp(z - np.logaddexp.reduce(z, axis=1, keepdims=True)),
    "log-probabilities to base 10": lambda z: (z - np.logaddexp.reduce(z, axis=1, keepdims=True)) / np.log(10),
    "transposed": lambda z: np.ascontiguousarray(z.T).reshape(z.shape),
    "reversed": lambda z: z[::-1],
    "shifted by +1": lambda z: np.vstack([z[1:], z[-1:]]),
    "byte-swapped": lambda z: z.astype(np.float32).byteswap(),
    "exponentials": lambda z: np.exp(z - 9),
    "the sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rows_that_are_no_logits_are_told_and_no_bug_is_tried(name: str) -> None:
    wrong = [TRANSFORMS[name](rows.astype(np.float64)) for rows in logits("qwen3", [])]
    if name == "byte-swapped" and not all(np.isfinite(rows).all() for rows in wrong):
        with pytest.raises(ContractError, match="big-endian"):
            diagnose_logits(build("qwen3"), IDS, wrong)
        return
    found = diagnose_logits(build("qwen3"), IDS, wrong)
    assert (found.verdict, found.findings[0].kind, found.names, found.mutants) == ("no logits", name, [], ())
    assert found.remedies and found.findings[0].text in sentence(found)


def test_the_rows_of_another_sequence_are_told() -> None:
    found = diagnose_logits(build("qwen3"), IDS, logits("qwen3", [])[::-1])
    assert found.verdict == "no logits" and "the rows of sequence 1" in found.findings[0].text


@pytest.mark.parametrize("name", ["head.probabilities", "head.one_position_late"])
def test_a_known_bug_that_is_a_transform_is_named(name: str) -> None:
    found = diagnose_logits(build("qwen3"), IDS, logits("qwen3", [(name, {})]))
    assert found.verdict == "named" and found.names == [name] and found.findings


def test_probabilities_of_another_model_are_no_bug_of_this_one() -> None:
    other = [np.random.default_rng(3).normal(size=rows.shape) * 3 for rows in logits("qwen3", [])]
    wrong = [np.exp(rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)) for rows in other]
    found = diagnose_logits(build("qwen3"), IDS, wrong)
    assert found.verdict == "no logits" and found.names == []


def test_what_is_merely_flat_is_explained_by_nothing_that_flattens() -> None:
    flat = [1e-4 * np.random.default_rng(4).normal(size=rows.shape) for rows in logits("qwen3", [])]
    found = diagnose_logits(build("qwen3"), IDS, flat)
    assert found.verdict == "unexplained" and found.names == [] and found.findings[0].kind == "nearly flat"


def test_the_model_is_left_as_it_was() -> None:
    before = logits("qwen3", [])
    diagnose_logits(build("qwen3"), IDS, logits("qwen3", [("rope.sign", {})]))
    assert all(np.array_equal(a, b) for a, b in zip(before, logits("qwen3", []), strict=True))


@pytest.mark.parametrize("wrong", [[], [np.zeros((3, 4))], [np.full((48, 9), np.nan)] * 2])
def test_arrays_that_do_not_fit_are_refused(wrong: list[np.ndarray]) -> None:
    with pytest.raises(ContractError, match="logits"):
        diagnose_logits(build("qwen3"), IDS, wrong)


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("norm.one_added", "layers"),
        ("norm.one_added", "all but heads"),
        ("norm.one_added", "heads"),
        ("norm.one_added", "final"),
        ("norm.weight_missing", "queries"),
        ("norm.weight_missing", "before the mlp"),
        ("norm.layer_norm", "before attention"),
        ("norm.eps_value", "layers"),
    ],
)
def test_a_bug_in_one_kind_of_norms_is_named_with_the_kind(name: str, which: str) -> None:
    options = {"which": which} | ({"eps": 1e-3} if name == "norm.eps_value" else {})
    found = diagnose_logits(build("qwen3"), IDS, logits("qwen3", [(name, options)]))
    assert name in found.names and found.mutants[0].distance <= 1e-3 * found.to_reference
    assert any(mutant.name == name and mutant.options.get("which") == which for mutant in found.mutants[: found.named])
