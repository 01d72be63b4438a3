"""Trains a byte-level BPE tokenizer with a family's own pre-tokenizer and wraps it for transformers."""

from __future__ import annotations

from families import Vocabulary
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


def train_tokenizer(vocabulary: Vocabulary, documents: list[str]) -> Tokenizer:
    """The tokenizer of `documents`; tokens are learned first, special tokens take the last ids.

    Real Qwen tokenizers normalize to NFC. llama.cpp has no such step, so it is only here where transformers
    puts it in by itself; the other families' texts are tokenized alike everywhere.
    """
    tokenizer = Tokenizer(models.BPE(ignore_merges=vocabulary.whole_words_first))
    if vocabulary.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(vocabulary.regex), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    learned = vocabulary.size - len(vocabulary.special) - len(vocabulary.added)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=learned, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in vocabulary.special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in vocabulary.added])
    tokenizer.post_processor = post_processor(vocabulary, tokenizer)
    if tokenizer.get_vocab_size() != vocabulary.size:
        raise SystemExit(f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {vocabulary.size}: add text")
    return tokenizer


def post_processor(vocabulary: Vocabulary, tokenizer: Tokenizer) -> processors.PostProcessor:
    """Byte-level offsets, and the begin-of-text token in front where the family has one."""
    byte_level = processors.ByteLevel(trim_offsets=False)
    begin = vocabulary.begin_of_text
    if not begin:
        return byte_level
    template = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return processors.Sequence([byte_level, template])


def wrap_tokenizer(vocabulary: Vocabulary, tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """The transformers tokenizer whose `save_pretrained` writes what AutoTokenizer loads."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=vocabulary.begin_of_text or None,
        eos_token=vocabulary.end_of_text,
        pad_token=vocabulary.end_of_text,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
    )
    wrapped.chat_template = vocabulary.template
    return wrapped
