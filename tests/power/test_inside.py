"""Planted bugs whose heads, pairs, experts and positions are known are told by them, also of an engine of another make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from logitproof.documents.document import Document
from logitproof.errors import ContractError
from logitproof.jobs.worker import Spec, Worker
from logitproof.localization.axes import Axis
from logitproof.localization.engines import Asked
from logitproof.localization.located import Locations
from logitproof.localization.targets import Fed, localize_named
from logitproof.localization.text import document
from logitproof.protocol.messages import Mode

ZOO = Path(__file__).parents[2] / "zoo"
TEXT = "The library opens at nine and closes at five, and on Sunday it opens at"


def located(model: str, bug: str, *, mode: Mode = "prefill", **asked: Any) -> Locations:
    addresses = [f"transformers:{ZOO / model}", f"transformers:{ZOO / model}?mutation={bug}"]
    how = Asked(explain=False, **asked)
    return localize_named(addresses, fed=Fed(text=TEXT), mode=mode, asked=how, say=lambda text: None)


def axis(locations: Locations, leaf: str, name: str) -> Axis:
    row = next(row for row in locations.located[0].localization.rows if row.tap == leaf)
    return next(axis for axis in row.axes if axis.name == name)


def patched(locations: Locations) -> dict[tuple[str, str], str]:
    return {(patch.what, patch.into): patch.came for patch in locations.located[0].patched}


def words(page: Document) -> str:
    return str(page)


def test_a_dead_head_is_named() -> None:
    locations = located("qwen3", "attention.head_dead")
    assert axis(locations, "layers.0.attn.context", "head").wrong == (0,)
    assert "head 0 of 12" in words(document(locations))


def test_pairs_that_scaling_leaves_alone_are_right() -> None:
    """llama3's scaling divides low frequencies and leaves high ones as they are."""
    found = axis(located("llama3", "rope.scaling.llama3_missing"), "layers.0.attn.q_rope", "rotary pair")
    assert 0 < len(found.wrong) < len(found.errors) and found.wrong[-1] == len(found.errors) - 1
    factors = [pair[1] / pair[0] for pair in found.frequencies]
    assert all(factors[number] == pytest.approx(1, rel=1e-3) for number in range(found.wrong[0]))
    assert max(factors) > 4, "the candidate turns the slow pairs as if nothing had been scaled"


def test_an_expert_that_is_dead_is_named() -> None:
    found = axis(located("qwen3-moe", "moe.one_expert_dead"), "layers.0.moe.weights", "expert")
    assert found.wrong == (0,) and sum(error is not None for error in found.errors) > 1


def test_the_error_is_told_token_by_token_in_a_decode() -> None:
    locations = located("qwen3", "kv.newest_not_written", mode="decode")
    (candidate,) = locations.located
    last = candidate.localization.compounding[-1]
    assert last.tap == "logits" and len(last.errors) == len(locations.token_ids)
    assert "error per token at logits" in words(document(locations))


@pytest.mark.parametrize(
    ("bug", "leaf"), [("kv.values_one_late", "cache.v"), ("kv.low_precision", "cache.k"), ("kv.one_head_stale", "cache.k")]
)
def test_a_cache_that_stores_something_else_is_the_first_that_is_wrong(bug: str, leaf: str) -> None:
    locations = located("qwen3", bug, mode="decode")
    where = locations.located[0].localization
    assert {tap.partition(".")[2].partition(".")[2] for tap in where.broken} <= {"cache.k", "cache.v"}
    assert where.first == f"layers.0.{leaf}"


def test_a_cause_is_proven_by_what_it_gives_in_the_place_of_the_right_one() -> None:
    parts = ("layers.*.attn.q_rope", "layers.*.attn.k_rope")
    locations = located("qwen3", "rope.base", patch=(*parts, "embedding", "layers.1.out", "broken"))
    came = patched(locations)
    for into in ("reference", "candidate"):
        assert came["together", into] == came["broken", into] == came["layers.1.out", into] == "all"
        assert came["embedding", into] == "nothing", "it is right, so the difference cannot come through it"
        assert all(came[part, into] != "all" for part in parts), "queries alone are not the whole bug"
    assert "proven: with these activations" in words(document(locations))


def test_of_two_bugs_the_first_is_a_part_and_proves_nothing_of_the_second() -> None:
    """A boundary after the first and before the second lets a part through."""
    locations = located("qwen3", "head.temperature_applied", patch=("norm", "broken"))
    assert patched(locations)["norm", "reference"] == "nothing"
    assert [row.tap for row in locations.located[0].localization.rows if row.status == "differs"] == ["logits"]


@pytest.mark.parametrize("tap", ["nothing", "layers.9.out", "logits"])
def test_a_tap_that_is_not_there_is_refused_with_the_way_out(tap: str) -> None:
    with pytest.raises(ContractError, match="no tap") as error:
        located("qwen3", "rope.base", patch=(tap,))
    assert "docs/taps.md" in error.value.remedy


def test_with_the_choices_of_the_candidate_what_is_left_is_its_arithmetic() -> None:
    addresses = [f"transformers:{ZOO / 'qwen3-moe'}", f"transformers:{ZOO / 'qwen3-moe'}?mutation=moe.lowest_experts_chosen"]
    found = [
        localize_named(
            addresses,
            fed=Fed(text=TEXT),
            mode="prefill",
            asked=Asked(explain=False, replay_experts=replay, patch=("broken",)),
            say=lambda text: None,
        )
        for replay in (False, True)
    ]
    plain, replayed = (locations.located[0].localization.compounding[-1].errors for locations in found)
    assert max(plain) > 0.01 and max(replayed) < 1e-5, "the choice was all that was wrong"
    assert any("chooses other experts than the reference at" in note for note in found[1].notes)
    assert found[1].located[0].localization.broken == found[0].located[0].localization.broken, "what it chose stays wrong"


@pytest.mark.parametrize(("model", "bug"), [("qwen3", "rope.base"), ("qwen3-moe", "moe.wrong_k")])
def test_choices_that_cannot_be_replayed_are_a_note(model: str, bug: str) -> None:
    locations = located(model, bug, replay_experts=True)
    assert any("its choices were not replayed" in note for note in locations.notes)


def test_one_slot_of_a_paged_cache_that_holds_another_step_is_told_after_a_prefill(tmp_path: Path) -> None:
    """A dump in blocks of 4 slots in an order of their own; one value of one head stands in the next slot, too."""
    ids, block, pages = list(range(5, 25)), 4, [6, 1, 4, 0, 3]
    with Worker(Spec("transformers", {}), name="engine") as worker:
        worker.load(ZOO / "qwen3", None)
        (tmp_path / "answer").mkdir()
        taps = worker.taps(ids, "prefill", ["layers.*.cache.*", "layers.*.out", "layers.*.attn.?_proj"], tmp_path / "answer")
    arrays = {name: np.array(tensor.open()) for name, tensor in taps.items()}
    arrays["layers.1.cache.v"][10, 1] = arrays["layers.1.cache.v"][9, 1]
    described: dict[str, Any] = {}
    for name, array in arrays.items():
        described[name] = {"file": f"{name}.npy"}
        if ".cache." in name:
            described[name]["pages"] = pages
            stored = np.zeros((7, block, *array.shape[1:]), np.float32)
            stored[pages] = array.reshape(len(pages), block, *array.shape[1:])
            array = stored
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "taps.yaml").write_text(yaml.safe_dump({"token_ids": ids, "precision": "float32", "taps": described}))
    addresses, how = [f"transformers:{ZOO / 'qwen3'}", str(tmp_path)], Asked(explain=False)
    locations = localize_named(addresses, fed=Fed(), mode="prefill", asked=how, say=lambda text: None)
    assert locations.located[0].localization.broken == ["layers.1.cache.v"]
    assert axis(locations, "layers.1.cache.v", "slot").wrong == (10,)
    assert axis(locations, "layers.1.cache.v", "head").wrong == (1,)
