"""Two engines by their completions alone: maximum mean discrepancy with a string kernel and a permutation test.

Completions are drawn for the same prompts; the kernel compares the n-grams of two completions (spectrum kernel, Leslie
et al. 2002), MMD compares the samples of a prompt (Gretton et al. 2012), and permutations within prompts give the
p-value, as in model equality testing (Gao et al. 2024).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitproof.comparison.chance import mmd_of_permutations, share_at_least

NGRAMS = (1, 2)
Samples = Sequence[Sequence[Sequence[int]]]
"""By prompt, then by completion, token ids."""


@dataclass(frozen=True)
class TwoSample:
    """`mmd` is the mean unbiased MMD² over prompts; `p_value` the share of permutations at least as large."""

    mmd: float
    p_value: float
    prompts: int
    completions: int
    permutations: int

    def differs(self, alpha: float = 0.05) -> bool:
        """Whether equality is rejected at level `alpha`."""
        return self.p_value <= alpha


def two_sample(first: Samples, second: Samples, *, permutations: int = 500, seed: int = 0) -> TwoSample:
    """Test whether completions of the same prompts come from one distribution.

    Raises ValueError where the prompts differ in number or a prompt has fewer than two completions on a side.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} prompts")
    if min(len(side) for prompt in zip(first, second, strict=True) for side in prompt) < 2:
        raise ValueError("each prompt needs two completions a side or more")
    rng = np.random.default_rng(seed)
    total = np.zeros(permutations + 1)
    for left, right in zip(first, second, strict=True):
        kernel = spectrum_kernel([*left, *right])
        total += mmd_of_permutations(kernel, len(left), permutations, rng)
    total /= len(first)
    p_value = share_at_least(float(total[0]), total[1:])
    count = sum(map(len, first)) + sum(map(len, second))
    return TwoSample(float(total[0]), p_value, len(first), count, permutations)


def spectrum_kernel(texts: Sequence[Sequence[int]]) -> np.ndarray:
    """[N, N] similarity of token sequences: cosine of their n-gram counts, averaged over the lengths in `NGRAMS`.

    How often a token stands in a completion counts as its own feature, so that a penalty on repetition is seen.
    """
    whole = np.zeros((len(texts), len(texts)))
    for n in NGRAMS:
        grams = [Counter(tuple(text[at : at + n]) for at in range(len(text) - n + 1)) for text in texts]
        if n == 1:
            grams = [Counter({(*gram, k): 1 for gram, times in counter.items() for k in range(times)}) for counter in grams]
        index = {gram: at for at, gram in enumerate(dict.fromkeys(gram for counter in grams for gram in counter))}
        counts = np.zeros((len(texts), max(len(index), 1)))
        for row, counter in enumerate(grams):
            for gram, times in counter.items():
                counts[row, index[gram]] = times
        repeats = np.array([sum(counter.values()) - len({gram[0] for gram in counter}) for counter in grams], np.float64)
        norms = np.sqrt((counts**2).sum(axis=1))
        whole += (counts @ counts.T) / np.maximum(np.outer(norms, norms), 1e-12)
        if n == 1:
            lengths = np.maximum([len(text) for text in texts], 1)
            share = repeats / lengths
            whole += np.exp(-((share[:, None] - share[None]) ** 2) / (2 * WIDTH**2))
    return whole / (len(NGRAMS) + 1)


WIDTH = 0.08
"""Width of the Gaussian kernel on the share of tokens that a completion has had before."""
