"""The training loop: windows of a token stream, Muon for matrices and AdamW for the rest, one-cycle rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

WINDOW = 256  # positions in a training window
BATCH = 16
PEAK_RATE = 6e-3
WEIGHT_DECAY = 0.3
# the text is small and would be learned by heart, with huge margins; these three keep the margins a real model's
RESIDUAL_DROPOUT = 0.1
LABEL_SMOOTHING = 0.1
WRONG_INPUTS = 0.05  # share of input tokens replaced by random ones; the targets stay right
WARM_UP = 0.08  # share of the steps


@dataclass(frozen=True)
class Run:
    """What a training run leaves beside the weights."""

    loss: list[float]  # mean over each tenth of the run, with smoothing and dropout
    seconds: float


def windows(stream: list[int], steps: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """`steps` pairs (inputs, next tokens), each of shape (BATCH, WINDOW), at random offsets."""
    tokens = torch.tensor(stream)
    offsets = torch.arange(WINDOW + 1)
    for _ in range(steps):
        starts = torch.randint(0, len(stream) - WINDOW - 1, (BATCH, 1), generator=generator)
        rows = tokens[starts + offsets]
        wrong = torch.rand((BATCH, WINDOW), generator=generator) < WRONG_INPUTS
        others = tokens[torch.randint(0, len(stream), (BATCH, WINDOW), generator=generator)]
        yield torch.where(wrong, others, rows[:, :-1]), rows[:, 1:]


def drop_residual_branches(model: PreTrainedModel) -> None:
    """Dropout on the output of every attention and feed-forward block while the model is in training mode."""

    def dropped(module: nn.Module, _: object, output: Tensor | tuple) -> Tensor | tuple:
        if isinstance(output, tuple):
            return (F.dropout(output[0], RESIDUAL_DROPOUT, module.training), *output[1:])
        return F.dropout(output, RESIDUAL_DROPOUT, module.training)

    for layer in model.model.layers:
        for name in ("self_attn", "linear_attn", "mlp"):
            if hasattr(layer, name):
                getattr(layer, name).register_forward_hook(dropped)


def optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers; AdamW for embeddings, stacked experts, norms and biases."""
    inside = dict(model.model.layers.named_parameters())
    matrices = [weight for weight in inside.values() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    groups = [
        {"params": [weight for weight in others if weight.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [weight for weight in others if weight.ndim == 1], "weight_decay": 0.0},
    ]
    muon = torch.optim.Muon(matrices, lr=PEAK_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))]


def rate_at(step: int, steps: int) -> float:
    """Share of the peak rate: a linear warm-up, then a cosine down to a hundredth."""
    warm = max(1, int(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(model: PreTrainedModel, stream: list[int], steps: int, seed: int, say: Callable[[str], None]) -> Run:
    """Trains in place, in float32 with bfloat16 products, which is twice as fast."""
    generator = torch.Generator().manual_seed(seed)
    drop_residual_branches(model)
    used = optimizers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: rate_at(step, steps)) for one in used]
    started, losses = time.monotonic(), []
    model.train()
    for step, (inputs, targets) in enumerate(windows(stream, steps, generator)):
        losses.append(train_step(model, inputs, targets, used))
        for schedule in schedules:
            schedule.step()
        if (step + 1) % 20 == 0:
            say(f"step {step + 1}/{steps} loss {sum(losses[-20:]) / 20:.3f} {time.monotonic() - started:.0f} s")
    model.eval()
    tenth = max(1, steps // 10)
    means = [sum(losses[at : at + tenth]) / len(losses[at : at + tenth]) for at in range(0, steps, tenth)]
    return Run(loss=[round(mean, 4) for mean in means], seconds=time.monotonic() - started)


def train_step(model: PreTrainedModel, inputs: Tensor, targets: Tensor, used: list[torch.optim.Optimizer]) -> float:
    """One step; the loss is cross-entropy with smoothing, plus the router's balance loss where there is one."""
    with torch.autocast("cpu", torch.bfloat16):
        output = model(input_ids=inputs, use_cache=False)
    logits = output.logits.float().flatten(0, 1)
    loss = F.cross_entropy(logits, targets.flatten(), label_smoothing=LABEL_SMOOTHING)
    balance = getattr(output, "aux_loss", None)
    total = loss if balance is None else loss + model.config.router_aux_loss_coef * balance
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for one in used:
        one.step()
        one.zero_grad(set_to_none=True)
    return float(loss.detach())
