"""The engine `transformers_gguf`: transformers with its own loader of GGUF files, as a candidate beside the reference's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError

from logitproof.engines import Loaded
from logitproof.engines.transformers import Transformers
from logitproof.errors import Refusal
from logitproof.reference.checkpoint import LOCAL
from logitproof.reference.model import PLAIN, Reference, config_folder, set_up_torch, starts_afresh
from logitproof.reference.taps import Watch
from logitproof.weights.model import is_gguf

UNREADABLE = (ValueError, KeyError, RuntimeError, OSError, TypeError, AttributeError, NotImplementedError)
"""What the loader raises of files that it does not know, or whose settings and tensors its model has no place for."""


@dataclass
class TransformersGguf(Transformers):
    """What `from_pretrained(FOLDER, gguf_file=FILE)` makes of a GGUF file alone: its config, its tensors, in float32.

    The engine `transformers` reads the same files with this package's loader and the config of an HF folder; what the two
    give apart is transformers' own reading. `details.loading` has the tensors that transformers did not place.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "float32"}

    threads: int | None = None

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Load a GGUF file with transformers' own loader; `config` is for the tokenizer alone."""
        self._check_options()
        self._reference = self._streamed = None
        if not is_gguf(model):
            raise Refusal(f"{model} is no GGUF file", field="model", remedy="the engine `transformers` reads HF folders")
        set_up_torch(self.device)
        try:
            loaded, placed = transformers.AutoModelForCausalLM.from_pretrained(
                model.parent,
                gguf_file=model.name,
                dtype=torch.float32,
                attn_implementation=self.attention,
                output_loading_info=True,
                **LOCAL,
            )
        except (*UNREADABLE, StrictDataclassError) as error:
            words = " ".join(str(error).split())
            raise Refusal(
                f"transformers does not load {model.name}: {type(error).__name__}: {words}",
                field="model",
                remedy="the engine `transformers` reads the families that this package knows",
            ) from error
        loaded.eval()
        starts_afresh(loaded)
        details = {"loading": {kind: sorted(map(str, names)) for kind, names in placed.items() if names}}
        length = getattr(loaded.config, "max_position_embeddings", None)
        self._reference = Reference(loaded, config_folder(model, config), PLAIN, length, details)
        self._watch = Watch(loaded)
        return self._loaded()
