"""The one way to load the reference: a transformers model from a safetensors folder or a dequantized GGUF file.

The engine `transformers`, diagnoses, replays, calibrations and measurements of kernels all load through `load`, so that
none of them computes with another model than the one that a verdict rests on. Nothing is fetched and no remote code is run.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from logitproof.errors import ModelError, Refusal
from logitproof.files.causes import cause_of
from logitproof.gguf.folder import folder_of
from logitproof.reference import adapter as lora
from logitproof.reference import checkpoint
from logitproof.reference import float64 as wide
from logitproof.weights.model import is_gguf
from logitproof.weights.passes import crossing_of

Dtype = Literal["float32", "bfloat16", "float16", "float64"]
Attention = Literal["eager", "sdpa"]


@dataclass(frozen=True)
class Loading:
    """How a model is loaded: the type that it computes in, its attention, where it lies, and a PEFT LoRA adapter."""

    dtype: Dtype = "float32"
    attention: Attention = "eager"
    device: str = "cpu"
    adapter: Path | None = None
    merge_adapter: bool = False


PLAIN = Loading()
EXACT = Loading(dtype="float64")


@dataclass(frozen=True)
class Reference:
    """A loaded model, and the folder that its config and its tokenizer are read from.

    `details` is what loading has to say for the record: tensors that were ignored or dequantized, the adapter, and the
    places at which the model's own code would have rounded in float64.
    """

    model: Any = field(repr=False)
    folder: Path
    loading: Loading
    context_length: int | None
    details: dict[str, Any] = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return torch.device(self.model.device)

    @property
    def vocabulary(self) -> int:
        """How many logits a row has."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The folder's own tokenizer, read when it is first asked for; raises Refusal where there is none."""
        try:
            return transformers.AutoTokenizer.from_pretrained(self.folder, **checkpoint.LOCAL)
        except (OSError, ValueError) as error:
            text = f"{self.folder} has no tokenizer: {cause_of(error)}"
            raise Refusal(text, field=str(self.folder), remedy="add tokenizer.json or give token_ids") from error

    @property
    def generation_config(self) -> Any:
        """What generation_config.json says, or what the config does where there is none."""
        if (self.folder / "generation_config.json").is_file():
            return transformers.GenerationConfig.from_pretrained(self.folder, **checkpoint.LOCAL)
        return self.model.generation_config

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` with the special tokens that the tokenizer adds."""
        return list(self.tokenizer.encode(text, add_special_tokens=True))

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens kept, spaces as they are."""
        ids = [int(token) for token in token_ids]
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def load(model: Path, config: Path | None = None, loading: Loading = PLAIN) -> Reference:
    """Load a safetensors folder, or a GGUF file with the config of the folder `config`, strictly.

    Raises Refusal of what is missing, foreign, half filled, or not known to be right in this type.
    """
    set_up_torch(loading.device)
    folder = config_folder(model, config)
    settings = checkpoint.read_config(folder)
    if loading.dtype == "float64":
        wide.check_family(settings.model_type)
    dtype = getattr(torch, loading.dtype)
    options = {"attn_implementation": loading.attention, "experts_implementation": "eager"}
    if model.is_dir():
        loaded, details = checkpoint.load_folder(model, settings, dtype=dtype, **options)
    else:
        loaded, details = checkpoint.load_gguf(model, settings, dtype, **options)
    if loading.adapter is not None:
        adapted = lora.apply(loaded, loading.adapter, merge=loading.merge_adapter)
        details = {**details, "adapter": {"matrices": adapted, "merged": loading.merge_adapter}}
    loaded.to(loading.device).eval()
    upgraded = wide.widen(loaded) if loading.dtype == "float64" else []
    starts_afresh(loaded)
    # Dynamic NTK stretches the base further for every position more: it has no end.
    crossing = crossing_of(settings.to_dict())
    length = None if crossing and crossing.kind == "dynamic" else getattr(settings, "max_position_embeddings", None)
    return Reference(loaded, folder, loading, length, {**details, "upgraded_to_float64": upgraded})


def starts_afresh(model: Any) -> None:
    """Have every pass that begins a sequence rotate as the first pass of a process would.

    transformers keeps the base of the longest pass that it has seen (`dynamic_rope_update`), so that rows would depend on what
    was computed before them.
    """

    def reset(module: Any, args: Any, options: dict[str, Any]) -> None:
        cache = options.get("past_key_values")
        if cache is not None and cache.get_seq_length():
            return
        for part in module.modules():  # a planted bug may stand in the place of what was loaded
            if getattr(part, "rope_type", None) == "dynamic" and part.max_seq_len_cached != part.original_max_seq_len:
                part.register_buffer("inv_freq", part.original_inv_freq, persistent=False)
                part.max_seq_len_cached = part.original_max_seq_len

    if any(getattr(module, "rope_type", None) == "dynamic" for module in model.modules()):
        model.register_forward_pre_hook(reset, with_kwargs=True)


def set_up_torch(device: str = "cpu") -> None:
    """Make torch compute the same every time and in the type that it is asked for; refuse a device that is not there."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        remedy = "use device: cpu or a CUDA build of torch"
        raise Refusal("torch sees no CUDA device", field="device", remedy=remedy)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    transformers.utils.logging.disable_progress_bar()


def config_folder(model: Path, config: Path | None) -> Path:
    """The folder that config and tokenizer are read from; raises Refusal where there is no model."""
    if not model.exists():
        raise Refusal(f"{model} does not exist", field="model", remedy="correct the path or fetch the model")
    if model.is_dir():
        return config or model
    if not is_gguf(model):
        raise Refusal(f"{model} is no model", field="model", remedy="give a safetensors folder or a GGUF file")
    if config is not None:
        return config
    try:
        return folder_of(model)
    except ModelError as error:
        raise Refusal(f"{error.where}: {error.text}", field="config", remedy=error.remedy) from None
