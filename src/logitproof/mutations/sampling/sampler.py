"""How the next token is drawn: logits right, tokens wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from logitproof.mutations import Record, swept
from logitproof.mutations.sampling._sampler import WrongSampler
from logitproof.protocol.sampler import NEUTRAL, Sampling, probabilities, softmax


class TemperatureIgnored(WrongSampler, id="sampling.temperature_ignored"):
    """The temperature is ignored: tokens are drawn at one."""

    record = Record(
        shows="logits exact, text wilder than asked for below temperature 1",
        remedy="divide logits by the temperature",
        seen_in=("vLLM #5334",),
    )

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        return probabilities(logits, token_ids, replace(sampling, temperature=min(sampling.temperature, 1.0) and 1.0))


class TemperatureTwice(WrongSampler, id="sampling.temperature_twice"):
    """Logits are divided by the temperature twice, by the engine and by its caller."""

    record = Record(
        shows="logits exact, text tamer than asked for below temperature 1",
        remedy="divide once",
        seen_in=("dynamo #12934",),
    )

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        return probabilities(logits, token_ids, replace(sampling, temperature=sampling.temperature**2))


class TemperatureAfterTruncation(WrongSampler, id="sampling.temperature_after_truncation"):
    """Temperature is applied after truncation (top-k, top-p, min-p), not before."""

    record = Record(
        shows="logits exact; above temperature 1 fewer tokens can be drawn, below it more",
        remedy="agree on one order with the reference and pin it",
        seen_in=("llama.cpp's default order of samplers",),
    )

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        if sampling.temperature == 0:
            return probabilities(logits, token_ids, sampling)
        cut = probabilities(logits, token_ids, replace(sampling, temperature=NEUTRAL.temperature))
        with np.errstate(divide="ignore"):
            return softmax(np.log(cut) / sampling.temperature)


class TopKOneLess(WrongSampler, id="sampling.top_k_one_less"):
    """Top-k is off by one: it keeps k - 1 tokens."""

    record = Record(
        shows="logits exact, the k-th token never drawn",
        remedy="keep k tokens",
        seen_in=("kekzl/imp M22",),
    )

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """The right sampler with k - 1."""
        return probabilities(logits, token_ids, replace(sampling, top_k=max(sampling.top_k - 1, 1) if sampling.top_k else 0))


class TopPBoundaryLeftOut(WrongSampler, id="sampling.top_p_boundary_left_out"):
    """The nucleus ends before the token that reaches top-p."""

    record = Record(
        shows="logits exact, the least likely token of the nucleus never drawn",
        remedy="keep the token whose mass reaches top-p",
        seen_in=("kekzl/imp M21",),
    )

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        p = probabilities(logits, token_ids, sampling)
        kept = np.flatnonzero(p)
        if sampling.top_p < 1.0 and len(kept) > 1:
            p[kept[np.argmin(p[kept])]] = 0.0
        return np.asarray(p / p.sum())


class MinPAbsolute(WrongSampler, id="sampling.min_p_absolute"):
    """Min-p is compared with the probability itself, not with its share of the best token's."""

    record = Record(
        shows="logits exact, fewer tokens can be drawn where the best is unlikely",
        remedy="compare with min_p times the largest probability",
        seen_in=("kekzl/imp M21",),
    )

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        p = probabilities(logits, token_ids, replace(sampling, min_p=0.0))
        p = np.where((p < sampling.min_p) & (p < p.max()), 0.0, p)
        return np.asarray(p / p.sum())


class HiddenRepetitionPenalty(WrongSampler, id="sampling.hidden_repetition_penalty"):
    """A repetition penalty is applied although nobody asked for it, also in greedy decoding."""

    record = Record(
        shows="logits exact, greedy text parts where a token would repeat",
        remedy="switch every penalty off, or apply it on both sides",
        seen_in=("set-up faults of several parity reports",),
    )
    penalty: float = swept(1.1, grid=(1.1, 1.05, 1.3))

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        return probabilities(logits, token_ids, replace(sampling, repetition_penalty=self.penalty))
