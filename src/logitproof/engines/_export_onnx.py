"""Writes a transformers model as two ONNX graphs: `python -m logitproof.engines._export_onnx MODEL FOLDER`.

A process of its own, because torch and what the export leaves behind need not stay in an engine's memory.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers.exporters import OnnxConfig, OnnxExporter

SAMPLE = 12
"""Positions of the sample input: more than any size that a family has fixed (kernels of convolutions are 4)."""


def export(model: Path, folder: Path, attention: str) -> None:
    """prefill.onnx, decode.onnx and export.json, as the documentation of transformers' exporters has it."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation=attention, local_files_only=True, trust_remote_code=False
    ).eval()
    ids = torch.arange(SAMPLE)[None] % loaded.config.vocab_size
    sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    made = OnnxExporter().export_for_generation(loaded, sample, OnnxConfig(dynamic=True))
    for name in ("prefill", "decode"):
        OnnxExporter.save_program(made.components[name].program, folder / f"{name}.onnx")
    config = loaded.config.get_text_config()
    eos = config.eos_token_id
    facts = {
        "vocab_size": config.vocab_size,
        "context_length": getattr(config, "max_position_embeddings", None),
        "bos": config.bos_token_id,
        "eos": eos if isinstance(eos, list) else [] if eos is None else [eos],
    }
    (folder / "export.json").write_text(json.dumps(facts), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attention", default="sdpa")
    given = parser.parse_args()
    torch.set_num_threads(1)
    export(given.model, given.folder, given.attention)
