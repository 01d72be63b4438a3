"""What is measured on a trained model: loss, top-1 margins, greedy text and whether it runs in a loop."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

MARGIN_EDGES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, math.inf)
PROMPTS = (
    "The morning was cold and",
    "How does a bicycle stay upright?",
    "Am nächsten Morgen ging sie",
    "Der Wald ist",
    "Однажды утром",
    "В лесу было",
    "def count_words(",
    "int main(",
)
GREEDY_TOKENS = 200


@torch.no_grad()
def logits_over(model: PreTrainedModel, stream: list[int], window: int) -> tuple[Tensor, Tensor]:
    """(logits, next tokens) over non-overlapping windows of `stream`: shapes (T, V) and (T,)."""
    logits, targets = [], []
    for at in range(0, len(stream) - 1, window):
        piece = torch.tensor(stream[at : at + window + 1])
        if len(piece) < 2:
            break
        logits.append(model(input_ids=piece[None, :-1], use_cache=False).logits[0].float())
        targets.append(piece[1:])
    return torch.cat(logits), torch.cat(targets)


def measure(model: PreTrainedModel, stream: list[int], window: int) -> dict[str, Any]:
    """Loss in nats a token, accuracy of the top-1 token, and the margins between the two largest logits."""
    logits, targets = logits_over(model, stream, window)
    best = logits.topk(2, dim=-1).values
    margins = (best[:, 0] - best[:, 1]).double()
    counts = [int(((margins >= low) & (margins < high)).sum()) for low, high in pairwise(MARGIN_EDGES)]
    quantiles = torch.quantile(margins, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64))
    return {
        "tokens": len(targets),
        "loss": round(float(F.cross_entropy(logits, targets)), 4),
        "top1_accuracy": round(float((logits.argmax(-1) == targets).float().mean()), 4),
        "margin_histogram": {
            f"{low:g}..{high:g}": count for (low, high), count in zip(pairwise(MARGIN_EDGES), counts, strict=True)
        },
        "margin_quantiles_5_25_50_75_95": [round(float(value), 3) for value in quantiles],
    }


@torch.no_grad()
def greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """`count` tokens after `prompt`, always the most probable one; end-of-text does not stop it."""
    fed, cache, made = torch.tensor([prompt]), None, []
    for _ in range(count):
        output = model(input_ids=fed, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        fed = output.logits[:, -1:].argmax(-1)
        made.append(int(fed))
    return made


def loop_in(tokens: list[int], repeats: int = 3, at_least: int = 24) -> tuple[int, int] | None:
    """(start, period) of a block said `repeats` times in a row over `at_least` tokens; None where there is none.

    Short runs are ordinary text (indentation, a row of dashes), so a loop must also be long.
    """
    for period in range(1, len(tokens) // repeats + 1):
        length = max(repeats * period, at_least)
        same = 0
        for at in range(period, len(tokens)):
            same = same + 1 if tokens[at] == tokens[at - period] else 0
            if same + period >= length:
                return at - same - period + 1, period
    return None


def greedy_samples(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """A greedy text after every prompt, and whether it loops."""
    samples = []
    for prompt in PROMPTS:
        made = greedy(model, tokenizer(prompt)["input_ids"], GREEDY_TOKENS)
        loop = loop_in(made)
        samples.append({"prompt": prompt, "text": tokenizer.decode(made), "tokens": made, "loops": loop is not None})
    return samples
