"""Configs of dense families with a habit of their own: Cohere 2, OLMo 2 and 3, EXAONE 4, Seed-OSS, GLM-4 and others."""

from __future__ import annotations

from collections.abc import Callable

from logitproof.gguf.metadata import Metadata
from logitproof.gguf.settings_common import Values, common, llama3_rope, turned, windows

LAYER_NORM = "attention.layer_norm_epsilon"


def cohere2(meta: Metadata) -> Values:
    """Cohere 2: LayerNorm, a factor of the logits, and no positions in the layers without a window."""
    config = common(meta, "Cohere2ForCausalLM", "cohere2", LAYER_NORM, attention_bias=False)
    eps = config.pop("rms_norm_eps")
    return config | {
        "layer_norm_eps": eps,
        "logit_scale": float(meta.need("logit_scale")),
        "sliding_window": meta.count("attention.sliding_window"),
        "layer_types": windows(meta, config["num_hidden_layers"], 4),
        "tie_word_embeddings": True,
    }


def olmo2(meta: Metadata) -> Values:
    """OLMo 2, and OLMo 3, which has windows; its scaling is that of the layers without one."""
    if not meta.optional("attention.sliding_window", 0):
        return common(meta, "Olmo2ForCausalLM", "olmo2", attention_bias=False)
    config = common(meta, "Olmo3ForCausalLM", "olmo3", attention_bias=False)
    whole = config["rope_parameters"]
    # llama.cpp scales by a factor of one where there is a window (src/models/olmo2.cpp)
    base = float(meta.value("rope.freq_base_swa", whole["rope_theta"], "llama.cpp's loader of OLMo 2: the base of all layers"))
    return config | {
        "sliding_window": meta.count("attention.sliding_window"),
        "layer_types": windows(meta, config["num_hidden_layers"], 4),
        "rope_parameters": {
            "full_attention": whole, "sliding_attention": {"rope_theta": base, "rope_type": "default"},
        },
    }  # fmt: skip


def exaone4(meta: Metadata) -> Values:
    """EXAONE 4 of any size but that of 64 layers, in which alone llama.cpp has windows."""
    config = common(meta, "Exaone4ForCausalLM", "exaone4")
    layers = config["num_hidden_layers"]
    if meta.optional("attention.sliding_window", 0):
        raise meta.refusal("attention.sliding_window", "is not 0: an EXAONE 4 with windows is not known")
    more = {"sliding_window": None, "sliding_window_pattern": 0, "layer_types": ["full_attention"] * layers}
    return llama3_rope(meta, config) | more


def seed_oss(meta: Metadata) -> Values:
    """Seed-OSS: biases of q, k and v."""
    bias = meta.has("blk.0.attn_q.bias")
    return common(meta, "SeedOssForCausalLM", "seed_oss", attention_bias=bias, attention_out_bias=False, mlp_bias=False)


def hunyuan(meta: Metadata) -> Values:
    """Hunyuan: norms on heads after the rotation."""
    return common(meta, "HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense", attention_bias=False)


def apertus(meta: Metadata) -> Values:
    """Apertus: xIELU, whose slopes are keys of the file and parameters of the model."""
    return llama3_rope(meta, common(meta, "ApertusForCausalLM", "apertus", attention_bias=False, hidden_act="xielu"))


def arcee(meta: Metadata) -> Values:
    """Arcee: a squared ReLU."""
    config = common(meta, "ArceeForCausalLM", "arcee", attention_bias=False, mlp_bias=False, hidden_act="relu2")
    return llama3_rope(meta, config)


def glm4(meta: Metadata) -> Values:
    """GLM-4, the dense ones: norms before and behind the blocks, positions on a part of each head."""
    if any(meta.optional("rope.dimension_sections", [])):
        raise meta.refusal("rope.dimension_sections", "is of a GLM-4 with positions of pictures, which is not known")
    config = common(meta, "Glm4ForCausalLM", "glm4", attention_bias=meta.has("blk.0.attn_q.bias"))
    config["rope_parameters"]["partial_rotary_factor"] = turned(meta, config)
    return config


DENSE: dict[str, Callable[[Metadata], Values]] = {
    "cohere2": cohere2,
    "olmo2": olmo2,
    "exaone4": exaone4,
    "seed_oss": seed_oss,
    "hunyuan-dense": hunyuan,
    "apertus": apertus,
    "arcee": arcee,
    "glm4": glm4,
}
