"""The probes' tokenizers: byte-level BPE of a few hundred tokens, by the rules of three families."""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import PreTrainedTokenizerFast

sys.path.insert(1, str(Path(__file__).parents[1] / "zoo"))
from families import LLAMA_REGEX, QWEN2_REGEX, QWEN35_REGEX, Vocabulary
from vocabulary import train_tokenizer, wrap_tokenizer

CORPUS = [
    "The rain in the north is the rain that the river brings to the plain, and the plain returns it to the sea.",
    "In 1987 there were 12345 lines; it's they'll, we've and don't that no rule of one language reads at once.",
    "Größe, naïve, Ω, 東京 and émigré are there too.\n\n  Two blanks before this line, and a tab\there.",
]
VOCABULARIES = {
    "llama": Vocabulary(
        size=300, regex=LLAMA_REGEX, end_of_text="<|end_of_text|>", begin_of_text="<|begin_of_text|>",
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"), template="", whole_words_first=True,
    ),
    # llama.cpp looks these up by name in any model that is called phi3
    "phi": Vocabulary(
        size=302, regex=LLAMA_REGEX, end_of_text="<|endoftext|>", begin_of_text="<s>",
        special=("<unk>", "<s>", "</s>", "<|endoftext|>", "<|end|>"), template="",
    ),
    "qwen2": Vocabulary(
        size=306, regex=QWEN2_REGEX, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), end_of_text="<|endoftext|>",
        added=("<think>", "</think>"), template="",
    ),
    "qwen35": Vocabulary(
        size=310, regex=QWEN35_REGEX, special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), end_of_text="<|endoftext|>",
        added=("<think>", "</think>"), template="",
    ),
}  # fmt: skip
TEXTS = (
    "The rain in 12345 lines",
    "it's they'll don't\n\n  two blanks\tand a tab ",
    "Größe naïve Ω 東京 x²",
)


def tokenizer_of(rules: str, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer of one of `VOCABULARIES`."""
    vocabulary = VOCABULARIES[rules]
    return wrap_tokenizer(vocabulary, train_tokenizer(vocabulary, CORPUS), context)


def texts(rules: str) -> list[str]:
    """Texts with numbers, contractions, white space, other scripts, and a special token inside."""
    return [*TEXTS, f"The{VOCABULARIES[rules].special[-1]}rain"]
