"""One side of a comparison as files: settings and tokenizer under the keys of GGUF, tensors by name.

A Hugging Face folder is translated by the layout that converts it, so that there is one mapping only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from logitproof.errors import ContractError
from logitproof.files.gguf import GgufFile
from logitproof.gguf.families import layout_of
from logitproof.gguf.layout import WHOLE_KEYS, Config, Layout, Noted, common_keys
from logitproof.gguf.tensors import FolderTensors
from logitproof.gguf.tokenizer import tokenizer_keys
from logitproof.weights.config import read_config
from logitproof.weights.model import is_gguf

ALSO_IN_CONFIG = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "logits_scaling": "logit_scale",
    "logit_scale": "logit_scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "attention_multiplier": "attention.scale",
    "routed_scaling_factor": "expert_weights_scale",
}
"""Fields of config.json that change logits and that the layouts of known families do not have."""


@dataclass(frozen=True)
class Side:
    """The weights of one side: a folder, a GGUF file, or a file that only its own engine can read."""

    path: Path
    format: Literal["safetensors", "gguf", "other"]

    @functools.cached_property
    def reader(self) -> GgufFile:
        return GgufFile(self.path)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        return read_config(self.path)

    @functools.cached_property
    def layout(self) -> Layout | ContractError:
        """How the folder would be written as GGUF, or why it cannot be."""
        return self._described[0]

    @property
    def unread(self) -> dict[str, Any]:
        """The fields of config.json that the family's layout made nothing of."""
        return self._described[1]

    @functools.cached_property
    def architecture(self) -> str:
        if self.format == "gguf":
            return str(self._contents("general.architecture"))
        return self.layout.name if isinstance(self.layout, Layout) else str(self.config.get("model_type", ""))

    @functools.cached_property
    def keys(self) -> dict[str, Any]:
        """Every setting of the architecture by its GGUF key without the architecture's name."""
        if self.format == "gguf":
            prefix = f"{self.architecture}."
            names = [name for name in self.reader.fields if name.startswith((prefix, *WHOLE_KEYS))]
            return {name.removeprefix(prefix): self._contents(name) for name in names}
        return self._known_keys() | self._other_keys() | self._measured_keys()

    @functools.cached_property
    def tokenizer(self) -> dict[str, Any] | ContractError:
        """Every `tokenizer.*` key, or why there are none."""
        if self.format == "gguf":
            return {name: self._contents(name) for name in self.reader.fields if name.startswith("tokenizer.")}
        try:
            return tokenizer_keys(self.path, int(self.config["vocab_size"]))
        except ContractError as error:
            return error
        except (KeyError, TypeError, ValueError):
            return ContractError("config.json has no vocab_size", where=str(self.path / "config.json"))

    @functools.cached_property
    def general(self) -> dict[str, Any]:
        return {name: self._contents(name) for name in self.reader.fields if name.startswith("general.")}

    @property
    def settings_file(self) -> str:
        return f"{self.path.name}/config.json" if self.format == "safetensors" else self.path.name

    def field_of(self, key: str) -> str:
        return f"{self.architecture}.{key}" if self.format == "gguf" and not key.startswith(WHOLE_KEYS) else key

    @functools.cached_property
    def _described(self) -> tuple[Layout | ContractError, dict[str, Any]]:
        noted = Noted(self.config)
        try:
            return layout_of(noted, str(self.path / "config.json")), noted.left
        except ContractError as error:
            return error, {}

    def _contents(self, name: str) -> Any:
        return self.reader.value(name)

    def _known_keys(self) -> dict[str, Any]:
        if isinstance(self.layout, Layout):
            return dict(self.layout.keys)
        try:
            return common_keys(Config(self.config, str(self.path)), str(self.config.get("hidden_act")))
        except (ContractError, ArithmeticError, AttributeError, TypeError, ValueError):
            return {}

    def _measured_keys(self) -> dict[str, list[float]]:
        """Numbers of the checkpoint that a file has as keys; none where they are missing, which is told elsewhere."""
        named = self.layout.measured if isinstance(self.layout, Layout) else {}
        try:
            held = FolderTensors(self.path) if named else None
        except ContractError:
            return {}
        if held is None or not {name for names in named.values() for name in names} <= set(held.names):
            return {}
        return {key: [float(held.rows(name).reshape(-1)[0]) for name in names] for key, names in named.items()}

    def _other_keys(self) -> dict[str, Any]:
        config = self.config
        # what a layout looked at is a key of its own, or in the weights of a file
        unread = self.unread if isinstance(self.layout, Layout) else config
        values = {key: config[name] for name, key in ALSO_IN_CONFIG.items() if name in unread and config.get(name)}
        window = config.get("sliding_window")
        if window and config.get("use_sliding_window", True):
            values["attention.sliding_window"] = window
        return values


def open_side(path: Path) -> Side:
    """What is at `path`, which was checked already."""
    if path.is_dir():
        return Side(path, "safetensors")
    return Side(path, "gguf" if is_gguf(path) else "other")
