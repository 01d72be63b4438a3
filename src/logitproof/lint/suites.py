"""A suite must be long enough, and run in modes, in which the bugs of the model's family can be seen at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from logitproof.contract.contract import ORIGINAL
from logitproof.contract.opened import OpenContract
from logitproof.contract.suite import Prompt, Suite
from logitproof.errors import ContractError
from logitproof.files.untrusted import read_object
from logitproof.lint import Finding, Rule
from logitproof.weights.hub import find

LETTERS_A_TOKEN = 4
"""A common estimate for English text; tokenizers are not loaded here."""
DELTA_NET_CHUNK = 64
ROTARY = 16
"""Positions below which a wrong RoPE base or scaling is hardly louder than noise."""


class Suites(Rule):
    """Length and modes of what is fed."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP020": "the suite is too short to see bugs that the model's family can have",
        "LP021": "no cell decodes through the cache, where a whole class of bugs shows itself only",
        "LP022": "two prompts have the same content",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Estimate what is fed to each model and compare it with what its config asks for."""
        longest = max(_length(suite, prompt) for suite in opened.suites for prompt in suite.prompts)
        total = sum(_length(suite, prompt) for suite in opened.suites for prompt in suite.prompts)
        for name, files in opened.contract.models.items():
            for need, positions, all_prompts in _needs(_config(find(files.get(ORIGINAL, ""), opened.folder))):
                have = total if all_prompts else longest
                if have < positions:
                    what = "in all" if all_prompts else "in its longest prompt"
                    text = f"{need} of {name} shows from {positions} positions on; the suites have about {have} {what}"
                    yield self.finding(opened, "LP020", "suites", text=text, remedy="add a longer prompt or continuation")
        modes = set(opened.contract.matrix.mode)
        if not modes & {"decode", "self", "greedy"}:
            text = "the matrix has the mode prefill only: a wrong KV cache, position or ring would pass"
            yield self.finding(opened, "LP021", "matrix", text=text, remedy="add the mode decode")
        yield from self._twins(opened)

    def _twins(self, opened: OpenContract) -> Iterator[Finding]:
        for index, suite in enumerate(opened.suites):
            counts = Counter(prompt.sha256 for prompt in suite.prompts)
            twins = [prompt.id for prompt in suite.prompts if counts[prompt.sha256] > 1]
            if twins:
                text = f"the prompts {twins[0]!r} and {twins[1]!r} of {suite.suite} are the same"
                yield self.finding(opened, "LP022", "suites", index, text=text, remedy="take one of them out")


def _length(suite: Suite, prompt: Prompt) -> int:
    own = len(prompt.token_ids) if prompt.token_ids is not None else -(-len(prompt.text or "") // LETTERS_A_TOKEN)
    return own + suite.continuation(prompt)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = read_object(path / "config.json")
    except ContractError:
        return {}  # a model that is not there is told when the contract runs
    inner = config.get("text_config", config)
    return inner if isinstance(inner, dict) else {}


def _needs(config: dict[str, Any]) -> Iterator[tuple[str, int, bool]]:
    """What the family can get wrong, from how many positions on it is seen, and whether those of all prompts count."""
    if not config:
        return
    yield "a wrong RoPE base", ROTARY, False
    kinds = config.get("layer_types") or []
    window = config.get("sliding_window")
    if window and (config.get("use_sliding_window", True) or "sliding_attention" in kinds):
        yield "a sliding window that is ignored", int(window) + 1, False
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    original = rope.get("original_max_position_embeddings") if isinstance(rope, dict) else None
    if isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) in ("yarn", "longrope", "dynamic") and original:
        yield f"{rope.get('rope_type', rope.get('type'))} scaling", int(original) + 1, False
    if "linear_attention" in kinds:
        yield "a delta-net state that is lost between chunks", DELTA_NET_CHUNK + 1, False
    experts = config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts")
    if experts:
        yield "an expert that is never chosen", 4 * int(experts), True
