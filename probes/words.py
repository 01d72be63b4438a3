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
MORE = [
    "(the) [the] 1987, 2345, 45678 and 12345 and 45; 4567\n\n    (there)\n\n    [there]\n\n  345 678 456\n\n\n\n      567\n\n",
    "it'there it'there's I's it'the it't here    the    there      there\n\n    rain\n  rain\n\n    45\n\n    67    567  678",
]
"""White space, brackets and digits often enough to become tokens, so that splits between them are seen."""
VOCABULARIES = {
    "llama": Vocabulary(
        size=300, regex=LLAMA_REGEX, end_of_text="<|end_of_text|>", begin_of_text="<|begin_of_text|>",
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"), template="", whole_words_first=True,
    ),
    "words": Vocabulary(
        size=400, regex=LLAMA_REGEX, end_of_text="<|end_of_text|>", begin_of_text="<|begin_of_text|>",
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"), template="",
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
    " 👩\u200d🚀 it'there I's\r\n\r\n    (the) 45678\n\n  x \n",
)


def tokenizer_of(rules: str, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer of one of `VOCABULARIES`."""
    vocabulary = VOCABULARIES[rules]
    return wrap_tokenizer(vocabulary, train_tokenizer(vocabulary, CORPUS + 3 * MORE if rules == "words" else CORPUS), context)


def texts(rules: str) -> list[str]:
    """Texts with numbers, contractions, white space, other scripts, combining marks, and a special token inside."""
    # not with the rules of Qwen 2: transformers composes there, and llama.cpp has no normalizer
    marks = ["e\u0301te\u0301"] if rules == "words" else []
    return [*TEXTS, *marks, f"The{VOCABULARIES[rules].special[-1]}rain"]
