"""Bugs of an engine that shares no code with the library's: what another modeling of the same weights gives is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from planted import one_thread  # noqa: F401 -- a fixture

from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.found import Known

MODEL = Path(__file__).parents[2] / "zoo/qwen3"
IDS = [np.random.default_rng(seed).integers(100, 1000, 24).tolist() for seed in (3, 4)]
HIDDEN = -1e30


@pytest.fixture(scope="module")
def model() -> Any:
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    return transformers.AutoModelForCausalLM.from_pretrained(MODEL, **options).eval()


@contextmanager
def doubled(model: Any) -> Iterator[None]:
    """Every position counts twice."""
    rotary, right = model.model.rotary_emb, model.model.rotary_emb.forward
    rotary.forward = lambda x, position_ids, *more, **named: right(x, 2 * position_ids, *more, **named)
    yield
    rotary.forward = right


@torch.inference_mode()
def through_cache(model: Any, ids: list[int]) -> np.ndarray:
    """Rows of a decode whose steps see the first key alone."""
    cache, rows = transformers.DynamicCache(config=model.config), []
    for step, token in enumerate(ids):
        mask = torch.full((1, 1, 1, step + 1), HIDDEN)
        mask[..., 0] = 0
        masks = {"attention_mask": {"full_attention": mask}} if step else {}
        out = model(
            torch.tensor([[token]]), past_key_values=cache, use_cache=True, position_ids=torch.tensor([[step]]), **masks
        )
        rows.append(out.logits[0, 0].numpy())
    return np.stack(rows)


def test_positions_that_are_doubled_are_named(model: Any) -> None:
    with doubled(model), torch.inference_mode():
        rows = [model(torch.tensor([ids]), use_cache=False).logits[0].numpy() for ids in IDS]
    found = diagnose_logits(MODEL, IDS, rows, noise=Known(bits=24, wrong=True))
    assert found.verdict in ("named", "ambiguous")
    assert set(found.names) <= {"rope.twice", "rope.positions_multiplied"}, "the two are one function"
    assert found.remainder < 1e-4


def test_a_cached_step_that_sees_the_first_key_alone_is_named(model: Any) -> None:
    rows = [through_cache(model, ids) for ids in IDS]
    found = diagnose_logits(MODEL, IDS, rows, mode="decode", noise=Known(bits=24, wrong=True))
    assert (found.verdict, found.names) == ("named", ["attention.cached_step_sees_first_key"])
