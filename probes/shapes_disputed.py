"""Models on which the two witnesses part when llama.cpp's own converter writes the file: no probes, but findings.

`docs/findings.md` has what is wrong with each; `python benchmarks/families.py --part parted` shows it.
"""

from __future__ import annotations

from dataclasses import replace

from shape import Shape
from shapes_dense import DENSE
from shapes_experts import EXPERTS
from shapes_recurrent import RECURRENT

V2, EXAONE4, GEMMA4 = EXPERTS["deepseek-v2"], DENSE["exaone4"], DENSE["gemma4"]
MAMBA2, NEXT = RECURRENT["mamba2"], RECURRENT["qwen3-next"]
SILENT: dict[str, Shape] = {
    "deepseek-v2-groups": replace(
        V2, config=V2.config | {"q_lora_rank": 28, "n_group": 4, "topk_group": 2, "topk_method": "group_limited_greedy"}
    ),
    "deepseek-v3": EXPERTS["deepseek-v3"],
    "llama4-chunked": EXPERTS["llama4-chunked"],
    "exaone4-windows": replace(
        EXAONE4,
        config=EXAONE4.config
        | {
            "num_hidden_layers": 4, "intermediate_size": 144, "sliding_window": 20,
            "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        },
    ),
    "gemma4-uncapped": replace(GEMMA4, config=GEMMA4.config | {"final_logit_softcapping": None}),
    "qwen3-next-eps": replace(NEXT, config=NEXT.config | {"rms_norm_eps": 1e-2}),
    "mamba2-steps-held": replace(
        MAMBA2, config=MAMBA2.config | {"time_step_limit": (0.0, 0.5), "intermediate_size": 120}, padded_rows=4
    ),
}  # fmt: skip
"""What is converted and loaded without a word and gives other logits."""
REFUSED: dict[str, Shape] = {
    "cohere2": DENSE["cohere2"],
    "minimax-m2": EXPERTS["minimax-m2"],
    "deepseek-v2": V2,
    "granite-hybrid": RECURRENT["granite-hybrid"],
    "kimi-linear": RECURRENT["kimi-linear"],
    "nemotron-h": RECURRENT["nemotron-h"],
    "gemma4-shared-order": replace(
        GEMMA4,
        config=GEMMA4.config
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        },
    ),
    "phi3.5-moe": Shape(
        "PhimoeConfig",
        {
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "intermediate_size": 40,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "attention_bias": True,
            "lm_head_bias": True,
            "hidden_size": 96,
            "original_max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "llama",
        "routing by SparseMixer: a share is that among the experts within two per cent of the best",
        seed=150,
    ),
}
"""What transformers saved and the converter, or llama.cpp on its file, does not take."""
