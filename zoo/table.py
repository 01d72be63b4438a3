"""Keeps the table in zoo/README.md equal to what is recorded: `python zoo/table.py` rewrites it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from families import FAMILIES

ZOO = Path(__file__).parent
BEGIN, END = "<!-- table: python zoo/table.py -->", "<!-- end of table -->"
COLUMNS = (
    "model", "parameters", "MB", "layers", "hidden", "heads × size", "kv heads", "ffn", "vocabulary", "tied",
    "loss, train", "loss, held out", "median margin, train", "median margin, held out", "margins under 0.5, held out",
)  # fmt: skip


def row_of(name: str) -> list[str]:
    """The cells of one model."""
    config: dict[str, Any] = json.loads((ZOO / name / "config.json").read_text(encoding="utf-8"))
    facts: dict[str, Any] = json.loads((ZOO / name / "TRAINING.json").read_text(encoding="utf-8"))
    train, held_out = facts["measured"]["train"], facts["measured"]["held_out"]
    heads = config["num_attention_heads"]
    experts = config.get("num_local_experts") or config.get("num_experts")
    width = f"{experts} experts × {config['moe_intermediate_size']}" if experts else str(config["intermediate_size"])
    close = sum(list(held_out["margin_histogram"].values())[:3]) / held_out["tokens"]
    return [
        name,
        f"{facts['parameters']:,}",
        f"{(ZOO / name / 'model.safetensors').stat().st_size / 1e6:.1f}",
        str(config["num_hidden_layers"]),
        str(config["hidden_size"]),
        f"{heads} × {config.get('head_dim') or config['hidden_size'] // heads}",
        str(config["num_key_value_heads"]),
        width,
        str(config["vocab_size"]),
        "yes" if config["tie_word_embeddings"] else "no",
        *(f"{part['loss']:.2f}" for part in (train, held_out)),
        *(f"{part['margin_quantiles_5_25_50_75_95'][2]:.2f}" for part in (train, held_out)),
        f"{close:.0%}",
    ]


def table() -> str:
    """The Markdown table of all models."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS), *(row_of(name) for name in FAMILIES)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Rewrites the table between its two marks."""
    path = ZOO / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
