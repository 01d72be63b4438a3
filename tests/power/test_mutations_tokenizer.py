"""Every bug of a tokenizer gives other ids for some text of some probe, and none touches the model or the tokenizer."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import transformers

from logitproof import catalog
from logitproof.acid.probe import open_probes

PROBES = ("granite", "qwen3", "llama3")


def names() -> list[str]:
    return [name for name in catalog.entries("mutations") if name.startswith("tokenizer.")]


@functools.cache
def tokenizer(probe: str) -> Any:
    return transformers.AutoTokenizer.from_pretrained(open_probes([probe])[0].folder)


@pytest.mark.parametrize("name", names())
def test_some_text_gets_other_ids_and_afterwards_all_are_right(name: str) -> None:
    bug = catalog.load("mutations", name)()
    texts = [(probe.name, text) for probe in open_probes(PROBES) for text in probe.texts]
    wrong = [one for one, text in texts if bug.tokens(text.token_ids, tokenizer(one)) != list(text.token_ids)]
    assert wrong
    for one, text in texts:
        assert tokenizer(one).encode(text.text) == list(text.token_ids)


@pytest.mark.parametrize("name", ["tokenizer.stripped", "tokenizer.other_normalization", "tokenizer.compatibility_forms"])
def test_plain_text_hides_it(name: str) -> None:
    bug, plain = catalog.load("mutations", name)(), "The rain in 12345 lines"
    assert all(bug.tokens(ids, tokenizer(one)) == ids for one in PROBES for ids in [tokenizer(one).encode(plain)])
