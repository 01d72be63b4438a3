"""Models on which the two witnesses part when llama.cpp's own converter writes the file: no probes, but findings.

`docs/findings.md` has what is wrong with each; `python benchmarks/families.py --part parted` shows it.
"""

from __future__ import annotations

from dataclasses import replace

from shape import Shape
from shapes_dense import DENSE
from shapes_experts import EXPERTS
from shapes_recurrent import RECURRENT

V2, EXAONE4 = EXPERTS["deepseek-v2"], DENSE["exaone4"]
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
}  # fmt: skip
"""What is converted and loaded without a word and gives other logits."""
REFUSED: dict[str, Shape] = {
    "cohere2": DENSE["cohere2"],
    "minimax-m2": EXPERTS["minimax-m2"],
    "deepseek-v2": V2,
    "granite-hybrid": RECURRENT["granite-hybrid"],
    "kimi-linear": RECURRENT["kimi-linear"],
}
"""What transformers saved and the converter, or llama.cpp on its file, does not take."""
