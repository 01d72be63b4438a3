"""The token sequences of a probe: short, longer than the window, after another one, and beyond 256 positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from shape import Shape

LENGTHS = {"short": 6, "text": 52, "second": 26, "long": 300}
KEPT_OF_LONG = 30
MARGIN = 0.08
"""Least gap between the last expert chosen and the first that is not, in logits: rounding must not choose another."""
ATTEMPTS = 4000
ROUTERS = ("topkrouter", "llama4router", "gemma4textrouter")
"""How the classes of routers end, in small letters."""


def sequences(model: Any, reserved: int, shape: Shape) -> list[dict[str, Any]]:
    """Cases without bands: name, token ids, and the positions whose logits are kept. The last `reserved` ids are left out."""
    random = np.random.default_rng(shape.seed + 1)
    last = model.config.vocab_size - shape.padded_rows - reserved - 2
    made = []
    for name, length in LENGTHS.items():
        ids = steady(model, [int(one) for one in random.integers(0, last, length)], last, random)
        kept = list(range(length))
        if name == "long":
            kept = sorted({*np.linspace(0, length - 1, KEPT_OF_LONG).astype(int).tolist(), *range(length - 6, length)})
        made.append({"name": name, "token_ids": ids, "positions": kept})
    return made


def steady(model: Any, ids: list[int], last: int, random: np.random.Generator) -> list[int]:
    """`ids` with tokens replaced until no router is near a tie."""
    for _ in range(ATTEMPTS):
        near = unsteady(model, ids)
        if near is None:
            return ids
        ids[near] = int(random.integers(0, last))
    raise SystemExit("no sequence without ties of the router was found")


def unsteady(model: Any, ids: list[int]) -> int | None:
    """The first position at which a router nearly chooses another expert."""
    seen: list[tuple[Any, tuple[Any, ...], Any]] = []
    routers = [module for module in model.modules() if type(module).__name__.lower().endswith(ROUTERS)]
    handles = [router.register_forward_hook(lambda *call: seen.append(call)) for router in routers]
    with torch.inference_mode():
        model(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    near = torch.zeros(len(ids), dtype=torch.bool)
    for router, given, out in seen:
        near |= gaps(router, given, out) < MARGIN
    return int(near.nonzero()[0]) if near.any() else None


def gaps(router: Any, given: tuple[Any, ...], out: Any) -> torch.Tensor:
    """[T]: what is between the last chosen and the next, of experts or of groups, on the scale that they are chosen by."""
    if type(router).__name__ == "Llama4Router":
        return _gap(out[1], router.top_k)
    if hasattr(router, "router_jitter_noise"):
        return _gap_of_mixer(out[0], 2 * router.router_jitter_noise)
    if hasattr(router, "per_expert_scale"):
        return _gap(out[0].log(), router.config.top_k_experts)
    if hasattr(router, "moe_statics"):
        return _relative_gap(router.moe_statics(out[0].softmax(-1)), router.top_k)
    correction = given[1] if len(given) > 1 else getattr(router, "e_score_correction_bias", None)
    if correction is None:
        return _gap(out[0], router.top_k)
    scores = out[0].sigmoid() + correction
    if getattr(router, "num_group", 1) == 1:
        return 2 * _gap(scores, router.top_k)
    groups = scores.unflatten(-1, (router.num_group, -1))
    totals = groups.topk(2, -1).values.sum(-1)
    chosen = torch.zeros_like(totals).scatter(1, totals.topk(router.topk_group, -1).indices, 1).bool()
    inside = groups.masked_fill(~chosen[..., None], -torch.inf).flatten(-2)
    return 2 * torch.minimum(_gap(totals, router.topk_group), _gap(inside, router.top_k))


def _gap_of_mixer(scores: torch.Tensor, apart: float) -> torch.Tensor:
    """SparseMixer also asks which experts are near the best: none may be on the border of that."""
    ordered = scores.sort(-1, descending=True).values
    least = torch.minimum(ordered[:, 0] - ordered[:, 1], ordered[:, 1] - ordered[:, 2])
    for top in (ordered[:, :1], ordered[:, 1:2]):
        border = (top - scores) - apart * torch.maximum(scores.abs(), top)
        least = torch.minimum(least, border.abs().amin(-1))
    return least


def _relative_gap(scores: torch.Tensor, count: int) -> torch.Tensor:
    """A probability grows with its logit by less than itself, so this is less than the gap in logits."""
    ordered = scores.sort(-1, descending=True).values
    return (ordered[:, count - 1] - ordered[:, count]) / ordered[:, count - 1].abs()


def _gap(scores: torch.Tensor, count: int) -> torch.Tensor:
    ordered = scores.sort(-1, descending=True).values
    return ordered[:, count - 1] - ordered[:, count]
