"""A pass that begins at the first layer that a bug touches gives the bits of a whole one, for every bug of every model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from planted import CONFIGS, build

from logitproof import catalog
from logitproof.diagnosis.diagnose import Asked, diagnose_cells
from logitproof.mutations import Mutation
from logitproof.mutations._tensors import SpoiltTensors
from logitproof.reference import patches
from logitproof.reference.planted import ONLY_LAYER, PREFILL_NEEDS, Planted, showing
from logitproof.reference.shared import Boundaries, first_layer

IDS = [[5, 6, 7, 8, 9, 10, 11, 12]]


def places(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every applicable bug: its default, the last of the places that it names itself, and the last layer alone."""
    for name, kind in showing(PREFILL_NEEDS):
        if not kind().applies(config):
            continue
        yield name, {}
        yield from ((name, options) for options in list(kind().instances(config, IDS[0]))[-1:])
        if kind.first_tap.startswith("layers.") and kind.instances is Mutation.instances:
            yield name, {ONLY_LAYER: config.num_hidden_layers - 1}


def logits(planted: Planted, name: str, options: dict[str, Any]) -> np.ndarray | None:
    """Logits of the one sequence; None where the bug cannot be planted here."""
    try:
        return planted.logits([(name, options)])[0]
    except (RuntimeError, ValueError, IndexError):
        return None


@pytest.mark.parametrize("family", [*CONFIGS])
def test_a_pass_that_begins_above_shared_layers_gives_the_same_bits(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(build(family), IDS)
    right = planted.logits()[0]
    bugs = list(places(planted.config))
    shared = [logits(planted, *bug) for bug in bugs]
    begun = [bug for bug in bugs if first_layer([bug], planted.layers, ONLY_LAYER) > 0]
    assert begun, "no bug begins above the first layer"
    monkeypatch.setattr(Boundaries, "logits", lambda self, fed, first, run: run())
    for bug, rows in zip(bugs, shared, strict=True):
        whole = logits(planted, *bug)
        assert (rows is None) == (whole is None), bug
        assert rows is None or whole is None or np.array_equal(rows, whole, equal_nan=True), bug
    assert np.array_equal(right, planted.logits()[0])


@pytest.mark.parametrize("family", [*CONFIGS])
def test_tensors_spoilt_while_their_module_runs_give_the_same_bits(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(build(family), IDS)
    bugs = [(name, {}) for name, kind in showing(PREFILL_NEEDS) if issubclass(kind, SpoiltTensors)]
    bugs = [(name, options) for name, options in bugs if catalog.load("mutations", name)().applies(planted.config)]
    at_once = [logits(planted, name, options) for name, options in bugs]
    before = {name: value.clone() for name, value in planted.model.state_dict().items()}
    monkeypatch.setattr(patches, "MUCH", 0)
    for (name, options), rows in zip(bugs, at_once, strict=True):
        lazily = logits(planted, name, options)
        assert rows is not None and lazily is not None and np.array_equal(rows, lazily, equal_nan=True), name
    assert bugs and all(torch.equal(value, before[name]) for name, value in planted.model.state_dict().items())


def test_layers_below_are_not_computed() -> None:
    planted = Planted(build.__wrapped__("llama3"), IDS)
    planted.logits()
    ran = []
    for number, layer in enumerate(planted.model.get_decoder().layers):
        layer.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
    planted.logits([("weights.layer_skipped", {"layer": 1})])
    assert ran == [1]
    planted.logits([("head.temperature_applied", {})])
    assert ran == [1]
    planted.logits([("rope.sign", {})])
    assert ran == [1, 0, 1]


def test_a_model_that_carries_more_than_its_residual_stream_is_computed_from_the_beginning() -> None:
    planted = Planted(build.__wrapped__("llama3"), IDS)
    layers = planted.model.get_decoder().layers
    carried: list[Any] = []
    right = layers[0].forward

    def carrying(*args: Any, **named: Any) -> Any:
        carried.append(right(*args, **named))
        return carried[0]

    layers[0].forward = carrying
    layers[1].register_forward_hook(lambda module, args, out: out + carried.pop() if carried else out)
    planted.logits()
    ran = []
    layers[0].mlp.register_forward_hook(lambda *_: ran.append(0))
    planted.logits([("weights.layer_skipped", {"layer": 1})])
    assert ran == [0]


@pytest.mark.parametrize("family", ["llama3", "gemma3", "qwen3.5", "qwen3-moe"])
def test_a_replay_without_the_layers_that_nobody_asks_for_gives_the_same_bits(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(build.__wrapped__(family), IDS)
    every = planted.replay(["*"], {})
    given = {name: value + np.float32(0.01) if value.dtype == np.float32 else value for name, value in every.items()}
    last = planted.layers - 1
    asked = [[name] for name in every if name.startswith(f"layers.{last}.") or name in ("norm", "logits", "embedding")]
    ran: list[int] = []
    for number, layer in enumerate(planted.model.get_decoder().layers):
        name = next(name for name in ("mlp", "feed_forward") if hasattr(layer, name))
        getattr(layer, name).register_forward_hook(lambda *_, number=number: ran.append(number))
    few = [planted.replay(names, given) for names in asked]
    assert last == 0 or 0 not in ran
    partial = planted.replay([f"layers.{last}.out"], {"embedding": given["embedding"]})
    monkeypatch.setattr("logitproof.reference.shared.idling", lambda *_: [])
    monkeypatch.setattr("logitproof.reference.shared.fewest", lambda *_: {})
    for names, found in zip(asked, few, strict=True):
        whole = planted.replay(names, given)
        assert found.keys() == whole.keys()
        for name in whole:
            np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
    whole = planted.replay([f"layers.{last}.out"], {"embedding": given["embedding"]})
    assert all(np.array_equal(partial[name], whole[name]) for name in whole)
    planted.close()


def test_two_candidates_are_explained_by_one_planting_as_by_two() -> None:
    planted = Planted(build("llama3"), IDS)
    wrong = [planted.logits([(name, {})]) for name in ("rope.sign", "head.scaled_by_hidden_size")]
    alone, passes = [], []
    for rows in wrong:
        fresh = Planted(build("llama3"), IDS)
        alone += diagnose_cells(fresh, [Asked(rows)])
        passes.append(fresh.passes)
    before = planted.passes
    together = list(diagnose_cells(planted, [Asked(rows) for rows in wrong]))
    assert [diagnosis.names[0] for diagnosis in together] == ["rope.sign", "head.scaled_by_hidden_size"]
    assert [diagnosis.mutants for diagnosis in together] == [diagnosis.mutants for diagnosis in alone]
    assert planted.passes - before < 0.7 * sum(passes)
