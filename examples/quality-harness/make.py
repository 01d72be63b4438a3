"""What the steps of this folder need and no repository should hold: a LoRA adapter, and a model of a vocabulary of 248,000.

    python examples/quality-harness/make.py OUT

`OUT/adapter` is a random PEFT adapter of zoo/qwen3 (rank 4, on q, v and down projections), `OUT/vocabulary` a random Qwen3 of
two layers, 32 wide, with 248,320 tokens and no tokenizer: what is large is the vocabulary alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
RANK, VOCABULARY = 4, 248_320
LORA = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def main() -> int:
    """Write both, unless they are there."""
    if len(sys.argv) != 2:
        sys.exit("usage: make.py OUT")
    out = Path(sys.argv[1])
    save_adapter(ROOT / "zoo" / "qwen3", out / "adapter")
    save_large_vocabulary(out / "vocabulary")
    return 0


def save_adapter(base: Path, folder: Path) -> None:
    """A random adapter that changes the logits by far more than rounding."""
    folder.mkdir(parents=True, exist_ok=True)
    random, tensors = np.random.default_rng(3), {}
    with safe_open(base / "model.safetensors", "numpy") as weights:
        for name in weights.keys():  # noqa: SIM118
            if name.endswith(tuple(f"{leaf}.weight" for leaf in LORA["target_modules"])):
                rows, columns = weights.get_slice(name).get_shape()
                stem = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{stem}.lora_A.weight"] = random.normal(size=(RANK, columns)).astype(np.float32) * columns**-0.5
                tensors[f"{stem}.lora_B.weight"] = random.normal(size=(rows, RANK)).astype(np.float32) * 0.05
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(LORA), "utf-8")


def save_large_vocabulary(folder: Path) -> None:
    """Random weights of a size that a trained model has, so that logits are several units wide."""
    config = transformers.Qwen3Config(
        hidden_size=32, num_attention_heads=2, num_key_value_heads=2, head_dim=16, intermediate_size=64, num_hidden_layers=2,
        vocab_size=VOCABULARY, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, max_position_embeddings=256,
    )  # fmt: skip
    torch.manual_seed(11)
    model = transformers.Qwen3ForCausalLM(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.4 if parameter.ndim == 2 else 0.1) + (parameter.ndim == 1))
    model.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
