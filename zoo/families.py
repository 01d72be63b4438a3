"""The five families of the zoo: shapes, tokenizer facts and how long each is trained.

To add a family: write its `Family` entry at the bottom of `FAMILIES`, then `python zoo/train.py NAME`.
Shapes follow one rule: no two sizes that could be mixed up are equal, so that a swapped or transposed
tensor is an error of shape and not a silent difference. Rows are multiples of 256, so that K-quants apply.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LLAMA_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_REGEX = LLAMA_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3_TEMPLATE = QWEN_TEMPLATE.replace(
    "<|im_start|>assistant\n",
    "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
)


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE vocabulary: `size` counts the special and added tokens, which stand at its end."""

    size: int
    regex: str
    special: tuple[str, ...]
    end_of_text: str
    template: str
    begin_of_text: str = ""  # put before every text by the post-processor, where the family does so
    added: tuple[str, ...] = ()  # added tokens that are not special, such as <think>
    composed: bool = False  # normalize to NFC, as transformers does for every Qwen2 model whatever its files say
    whole_words_first: bool = False  # `ignore_merges`: a pre-token that is in the vocabulary is not merged


@dataclass(frozen=True)
class Family:
    """One model of the zoo. `config` holds the arguments of the transformers configuration class."""

    architecture: str
    config_class: str
    config: dict[str, Any]
    vocabulary: Vocabulary
    seed: int
    steps: int
    padded_rows: int = 0  # rows of the embedding that no token uses, as real Qwen models have
    bias_spread: float = 0.0  # attention biases start at N(0, this): zero biases would hide a lost bias
    options: dict[str, Any] = field(default_factory=dict)


QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
COMMON = {"max_position_embeddings": 4096, "initializer_range": 0.04, "attention_dropout": 0.0}

FAMILIES: dict[str, Family] = {
    "llama3": Family(
        architecture="LlamaForCausalLM",
        config_class="LlamaConfig",
        config=COMMON
        | {
            "hidden_size": 256, "num_attention_heads": 8, "head_dim": 64, "num_key_value_heads": 2,
            "intermediate_size": 768, "num_hidden_layers": 2, "tie_word_embeddings": False, "rms_norm_eps": 1e-5,
            # wavelengths above 32 positions are stretched: the scaling is seen within the first line of text
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 128,
            },
        },
        vocabulary=Vocabulary(
            size=1500, regex=LLAMA_REGEX, end_of_text="<|end_of_text|>", begin_of_text="<|begin_of_text|>",
            special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
            template=LLAMA_TEMPLATE, whole_words_first=True,
        ),
        seed=31,
        steps=540,
    ),
    "qwen2.5": Family(
        architecture="Qwen2ForCausalLM",
        config_class="Qwen2Config",
        # heads * head size is the hidden size here, as the family demands: q and o are its square matrices
        config=COMMON
        | {
            "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 768,
            "num_hidden_layers": 3, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        vocabulary=Vocabulary(
            size=1520, regex=QWEN2_REGEX, special=QWEN_SPECIAL, end_of_text="<|endoftext|>", template=QWEN_TEMPLATE,
            composed=True,
        ),
        seed=25,
        steps=720,
        padded_rows=16,
        bias_spread=0.5,
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        config_class="Qwen3Config",
        config=COMMON
        | {
            "hidden_size": 256, "num_attention_heads": 12, "head_dim": 64, "num_key_value_heads": 3,
            "intermediate_size": 512, "num_hidden_layers": 2, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        vocabulary=Vocabulary(
            size=1540, regex=QWEN2_REGEX, special=QWEN_SPECIAL, added=("<think>", "</think>"),
            end_of_text="<|endoftext|>", template=QWEN3_TEMPLATE,
        ),
        seed=3,
        steps=760,
    ),
    "qwen3-moe": Family(
        architecture="Qwen3MoeForCausalLM",
        config_class="Qwen3MoeConfig",
        # six experts of 256 rows' multiple would pass the size limit: the down rows of 192 use fallback types
        config=COMMON
        | {
            "hidden_size": 256, "num_attention_heads": 8, "head_dim": 64, "num_key_value_heads": 2,
            "intermediate_size": 768, "moe_intermediate_size": 192, "num_experts": 6, "num_experts_per_tok": 2,
            "norm_topk_prob": True, "num_hidden_layers": 2, "tie_word_embeddings": False, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "router_aux_loss_coef": 0.01,
        },
        vocabulary=Vocabulary(
            size=1460, regex=QWEN2_REGEX, special=QWEN_SPECIAL, added=("<think>", "</think>"),
            end_of_text="<|endoftext|>", template=QWEN3_TEMPLATE,
        ),
        seed=38,
        steps=600,
        options={"output_router_logits": True},
    ),
    "qwen3.5": Family(
        architecture="Qwen3_5ForCausalLM",
        config_class="Qwen3_5TextConfig",
        config=COMMON
        | {
            "hidden_size": 256, "num_attention_heads": 8, "head_dim": 64, "num_key_value_heads": 2,
            "intermediate_size": 768, "num_hidden_layers": 3, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            # three value heads to a key head: a wrong grouping of heads cannot go unseen
            "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 64,
            "linear_value_head_dim": 64, "linear_conv_kernel_dim": 4,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000000.0, "partial_rotary_factor": 0.25,
                "mrope_section": [3, 3, 2], "mrope_interleaved": True,
            },
        },
        vocabulary=Vocabulary(
            size=1580, regex=QWEN35_REGEX, special=QWEN_SPECIAL, added=("<think>", "</think>"),
            end_of_text="<|endoftext|>", template=QWEN3_TEMPLATE,
        ),
        seed=35,
        steps=540,
    ),
}
