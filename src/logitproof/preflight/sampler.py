"""The sampler: greedy, and nothing between the logits and their argmax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from logitproof.preflight import Check, Finding, Seen, Setting, Setup
from logitproof.preflight.precision import options_of
from logitproof.rows.top import is_top
from logitproof.traces.trace import Trace

NEUTRAL: dict[str, tuple[float, ...]] = {
    "temperature": (0.0, 1.0),
    "temp": (0.0, 1.0),
    "top_k": (0.0, 1.0, -1.0),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "repeat_penalty": (1.0,),
    "repetition_penalty": (1.0,),
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "dry_multiplier": (0.0,),
    "xtc_probability": (0.0,),
    "mirostat": (0.0,),
    "no_repeat_ngram_size": (0.0,),
}
"""Values of sampling options that leave logits and argmax as they are."""
NOISE = 0.05
"""Logits by which an engine's own prefill and decode may differ."""
APART = 8.0
"""How much further than all other tokens those of the context must be off for a penalty."""
FOREIGN = 0.25
"""Relative distance from which on a row is not the same computation, whatever its precision."""
ROWS = 8


class Sampler(Check):
    """No temperature, penalty or truncation by option; none in the logits that new tokens were chosen from."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF403": "the sampler is not neutral",
        "PF404": "the reference does not continue from what it scores",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        sides = {"reference": setup.reference_use, setup.candidate_name: setup.candidate_use}
        settings = {name: [(key, value) for key, value in options_of(use) if key in NEUTRAL] for name, use in sides.items()}
        wrong = {name: [pair for pair in pairs if not _is_neutral(*pair)] for name, pairs in settings.items()}
        shown = [", ".join(f"{key} {value}" for key, value in pairs) or "greedy" for pairs in settings.values()]
        yield Setting("sampler", shown[0], shown[1], "differs" if any(wrong.values()) else "same")
        for name, pairs in wrong.items():
            for key, value in pairs:
                values = (str(value), "greedy") if name == "reference" else ("greedy", str(value))
                remedy = f"say {key}: {NEUTRAL[key][0]:g}, or leave it out"
                yield Finding("PF403", f"sampler: {key}", *values, "contract", f"{name}.options.{key}", remedy, f"of {name}")

    def look(self, seen: Seen) -> Iterator[Finding]:
        """The rows that new tokens were chosen from are those that scoring gives for the same tokens."""
        if seen.source is None or seen.mode == "greedy" or seen.crosses or not len(seen.source.logits):
            return
        if seen.reference.token_ids != [*seen.source.token_ids, *seen.source.new_token_ids]:
            return
        if is_top(seen.source.logits) or is_top(seen.reference.logits):
            return
        code, text = processed(seen.source, seen.reference)
        remedies = {
            "PF403": "switch penalties, temperature and logit processors off in this engine",
            "PF404": "look at what `generate` feeds: the prompt once, then every new token at the next position",
        }
        if code:
            setting = "sampler" if code == "PF403" else "generation"
            same = "the rows that scoring gives"
            yield Finding(code, setting, text, same, seen.source.engine, f"prompt {seen.prompt_id}", remedies[code])


def processed(made: Trace, scored: Trace) -> tuple[str, str]:
    """(code, text): what happened to the logits [N, V] of `made` before a token was chosen, against scoring the same."""
    begin = made.prompt_length - 1
    rows = range(0, len(made.new_token_ids), max(1, len(made.new_token_ids) // ROWS))
    scales: list[float] = []
    context: list[float] = []
    rest: list[float] = []
    apart: list[float] = []
    for row in rows:
        scored_row, made_row = np.asarray(scored.logits[begin + row], np.float64), np.asarray(made.logits[row], np.float64)
        finite = np.isfinite(scored_row) & np.isfinite(made_row)
        if scored_row.shape != made_row.shape or finite.sum() < 10:
            return "", ""
        used = np.zeros(len(scored_row), bool)
        used[np.unique(scored.token_ids[: begin + row + 1])] = True
        delta = np.abs(made_row - scored_row)
        context += delta[used & finite].tolist()
        rest += delta[~used & finite].tolist()
        a, b = scored_row[finite] - scored_row[finite].mean(), made_row[finite] - made_row[finite].mean()
        scales.append(float((a * b).sum() / max(float((a * a).sum()), 1e-30)))
        apart.append(float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-30)))
    if not rest or not context:
        return "", ""
    if np.median(context) > NOISE and np.median(context) > APART * max(float(np.median(rest)), 1e-9):
        text = f"tokens of the context are {np.median(context):.2g} logits off, all others {np.median(rest):.2g}: a penalty"
        return "PF403", text
    scale = float(np.median(scales))
    if abs(scale - 1) > NOISE and np.ptp(scales) < NOISE * abs(scale):
        return "PF403", f"logits times {scale:.3g}: a temperature of {1 / scale:.3g}"
    if max(apart) > FOREIGN:
        return "PF404", f"the reference chose tokens from rows that are {max(apart):.0%} off what it scores there"
    return "", ""


def _is_neutral(name: str, value: Any) -> bool:
    try:
        return float(value) in NEUTRAL[name]
    except (TypeError, ValueError):
        return False
