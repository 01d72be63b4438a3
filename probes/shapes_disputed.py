"""Models on which the two witnesses part when llama.cpp's own converter writes the file: no probes, but findings.

`docs/findings.md` has what is wrong with each; `python benchmarks/families.py --part parted` shows it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shape import Shape
from shapes_dense import DENSE
from shapes_experts import EXPERTS
from shapes_recurrent import RECURRENT

PHI, NEMOTRON = EXPERTS["phi3.5-moe"], RECURRENT["nemotron-h"]
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
    "phimoe-routing": PHI,
    "nemotron-h-steps-held": replace(NEMOTRON, config=NEMOTRON.config | {"time_step_min": 0.5}),
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
    "phi3.5-moe": PHI,
    "phi3-in-its-name": PHI,
}
"""What transformers saved and the converter, or llama.cpp on its file, does not take."""
AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "phimoe-routing": {"architectures": ["PhiMoEForCausalLM"]},
    "phi3-in-its-name": {"architectures": ["PhiMoEForCausalLM"]},
}
"""What config.json is given besides, so that the converter takes what transformers saved."""
FLAGS = {"qwen3-next-eps": ["--no-mtp"]}
"""What the converter is asked besides."""
BY_OUR_LAYOUT = ("nemotron-h-steps-held",)
"""What llama.cpp's converter does not take, for another reason than what it is here for."""
