"""Configs as they were before transformers 5, for engines that know no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from logitproof.files.untrusted import read_object


def older_names(config: dict[str, Any]) -> dict[str, Any]:
    """What configs of transformers 5 say in other words than those before it, in the older words. Empty where nothing is."""
    rope, older = config.get("rope_parameters") or {}, {}
    if "rope_theta" in rope and "rope_theta" not in config:
        older["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default" and not config.get("rope_scaling"):
        older["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    if "partial_rotary_factor" in rope and "partial_rotary_factor" not in config:
        older["partial_rotary_factor"] = rope["partial_rotary_factor"]
    if "num_local_experts" in config and "num_experts" not in config:
        older["num_experts"] = config["num_local_experts"]
    kinds = config.get("layer_types") or []
    if "linear_attention" in kinds and "full_attention_interval" not in config and (every := _interval(kinds)):
        older["full_attention_interval"] = every
    return older


def with_settings(model: Path, settings: dict[str, Any], out: Path) -> Path:
    """A folder `out` of links to the files of `model`, with these settings in its config.json beside the others."""
    out.mkdir()
    for file in model.iterdir():
        if file.name != "config.json":
            (out / file.name).symlink_to(file.resolve())
    config = read_object(model / "config.json")
    (out / "config.json").write_text(json.dumps({**config, **settings}, indent=1), "utf-8")
    return out


def _interval(kinds: list[str]) -> int | None:
    """n where every n-th layer and no other has full attention, None where they stand otherwise."""
    full = [kind == "full_attention" for kind in kinds]
    return next((n for n in range(1, len(full) + 1) if full == [(at + 1) % n == 0 for at in range(len(full))]), None)
