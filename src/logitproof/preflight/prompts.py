"""The prompts: token ids that the vocabulary has, and one BOS at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from logitproof.contract.suite import Prompt
from logitproof.preflight import Check, Finding, Seen, Setting, Setup, named
from logitproof.preflight.vocabulary import ADD_BOS, value_of

BOS, TOKENS = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.tokens"


class Prompts(Check):
    """Token ids of a suite lie inside the vocabulary, and no prompt begins with two BOS tokens."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF308": "a token id of the suite is outside the vocabulary",
        "PF309": "BOS stands twice",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        keys = setup.original.tokenizer if setup.original.format != "other" else {}
        if not isinstance(keys, dict):
            return
        rows = len(keys.get(TOKENS, [])) or setup.original.keys.get("vocab_size") if keys else None
        for suite in setup.suites:
            outside = [prompt for prompt in suite.prompts if rows and prompt.token_ids and max(prompt.token_ids) >= rows]
            twice = [prompt for prompt in suite.prompts if _begins_twice(prompt, keys)]
            yield Setting(
                f"suite {suite.suite}",
                f"{len(suite.prompts)} prompts",
                suite.sha256[:12],
                "differs" if outside or twice else "listed",
            )
            for code, prompts, text in (
                ("PF308", outside, f"token ids of {rows} and above"),
                ("PF309", twice, "begins with BOS, and the tokenizer adds another"),
            ):
                if prompts:
                    yield _finding(code, suite.suite, prompts, text, f"{rows} entries" if code == "PF308" else "one BOS")

    def look(self, seen: Seen) -> Iterator[Finding]:
        ids = seen.source.token_ids if seen.source else []
        if seen.bos is not None and ids[:2] == [seen.bos, seen.bos]:
            yield Finding(
                "PF309",
                "BOS",
                f"token ids begin {ids[:4]}",
                "one BOS",
                f"prompt {seen.prompt_id}",
                "token_ids",
                "take BOS out of the prompt's text, or do not let the tokenizer add it",
            )


def _begins_twice(prompt: Prompt, keys: Mapping[str, Any]) -> bool:
    bos = keys.get(BOS)
    if bos is None:
        return False
    if prompt.token_ids is not None:
        return prompt.token_ids[:2] == [bos, bos]
    text, tokens = prompt.text or "", keys.get(TOKENS, [])
    name = tokens[bos] if bos < len(tokens) else ""
    begun = text.startswith(name * 2) if name else False
    return bool(name) and (begun or (text.startswith(name) and bool(value_of(ADD_BOS, keys))))


def _finding(code: str, suite: str, prompts: list[Prompt], text: str, allowed: str) -> Finding:
    names = named([prompt.id for prompt in prompts])
    return Finding(code, f"suite {suite}", allowed, text, f"suite {suite}", f"prompt {names}", "correct the suite")
