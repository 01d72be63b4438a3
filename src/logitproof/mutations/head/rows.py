"""The rows of logits that are reported: which entries, for which position, in which type."""

from __future__ import annotations

from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.head._logits import WrongAfterTokens, WrongLogits


class OnePositionLate(WrongLogits, id="head.one_position_late"):
    """Logits are reported one position late: row t holds those of position t - 1."""

    record = Record(
        shows="position 0 exact, then every row is the row before: perplexity of a random guess",
        first_tap="logits",
        remedy="row t predicts token t + 1",
        seen_in=("maxtext #2103", "dynamo #12934"),
    )

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([logits[:, :1], logits[:, :-1]], dim=1)


class ShardSwapped(WrongLogits, id="head.shard_swapped"):
    """The shards of a head that is split over devices are joined in the wrong order."""

    record = Record(
        shows="logits of the right size at the wrong ids: sorted they agree",
        first_tap="logits",
        remedy="join shards by rank",
    )

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits.roll(logits.shape[-1] // 2, dims=-1)


class ShardLost(WrongLogits, id="head.shard_lost"):
    """The second shard of the head is not gathered: half of the vocabulary has no logits."""

    record = Record(
        shows="half of the logits zero",
        first_tap="logits",
        remedy="gather the logits of all ranks",
        seen_in=("Megatron-Bridge #4780",),
    )

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([logits[..., : logits.shape[-1] // 2], torch.zeros_like(logits[..., logits.shape[-1] // 2 :])], dim=-1)


class TailRowsZero(WrongLogits, id="head.tail_rows_zero"):
    """The last rows of the head, those of added tokens, are zero."""

    record = Record(
        shows="a few logits zero, all others exact: greedy text is wrong only where all others are negative",
        first_tap="logits",
        remedy="copy all rows when the vocabulary is enlarged",
        seen_in=("mirage #751",),
    )
    rows: int = 5

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., -self.rows :] = 0
        return logits


class LowPrecision(WrongLogits, id="head.low_precision"):
    """Logits leave the head in bfloat16."""

    record = Record(
        shows="noise of up to 0.4 % of each logit, ties among the largest",
        first_tap="logits",
        remedy="compute the head in float32, or return what it accumulated",
        seen_in=("TRL #4159",),
    )
    bits: int = 8

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Rounded to so many significant bits: 8 is bfloat16, 11 float16."""
        return rounded(logits, self.bits)


class Probabilities(WrongLogits, id="head.probabilities"):
    """Probabilities are reported for logits."""

    record = Record(
        shows="every number in [0, 1], each row sums to one: greedy text is exact, every distribution nearly flat",
        first_tap="logits",
        remedy="report logits, or their log-softmax; softmax comes after",
        seen_in=("huggingface/exporters #50",),
    )

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits, dim=-1)


class LogProbabilities(WrongLogits, id="head.log_probabilities"):
    """Log-probabilities are reported for logits."""

    record = Record(
        shows="each row off by a constant: no distribution changes",
        first_tap="logits",
        remedy="compare after log-softmax, or report logits",
        equivalent="softmax(z - c) = softmax(z): a constant taken off a whole row changes no probability",
        seen_in=("vLLM #47680",),
    )

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(logits, dim=-1)


class RepetitionPenalty(WrongAfterTokens, id="head.repetition_penalty"):
    """Logits are reported after a repetition penalty: those of tokens that have come before are divided by it."""

    record = Record(
        shows="only the logits of tokens of the sequence differ, more of them with every position",
        remedy="report logits before the sampler's penalties, or set the penalty to 1",
        seen_in=("textgen #4518",),
    )
    penalty: float = swept(1.1, grid=(1.1, 1.05, 1.2, 1.3), between=(1.001, 5.0))

    def penalized(self, logits: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Divided where they are positive, else multiplied."""
        return torch.where(logits > 0, logits / self.penalty, logits * self.penalty)


class PresencePenalty(WrongAfterTokens, id="head.presence_penalty"):
    """Logits are reported after a presence penalty: a number is taken off those of tokens that have come before."""

    record = Record(
        shows="the logits of all tokens of the sequence are smaller by one number",
        remedy="report logits before the sampler's penalties, or set the penalty to 0",
        seen_in=("textgen #4518",),
    )
    penalty: float = swept(1.0, grid=(1.0, 0.5, 1.5), between=(0.01, 5.0))

    def penalized(self, logits: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return logits - self.penalty


class FrequencyPenalty(WrongAfterTokens, id="head.frequency_penalty"):
    """Logits are reported after a frequency penalty: a number is taken off for every time that a token has come."""

    record = Record(
        shows="the logits of tokens of the sequence are smaller, by how often they came",
        remedy="report logits before the sampler's penalties, or set the penalty to 0",
        seen_in=("edwardcapriolo/deliverance #20",),
    )
    penalty: float = swept(1.0, grid=(1.0, 0.5, 0.2), between=(0.01, 5.0))

    def penalized(self, logits: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return logits - self.penalty * counts
