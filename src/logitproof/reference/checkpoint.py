"""Loads a transformers model strictly: every parameter filled, every tensor of the checkpoint used.

`from_pretrained` warns about what is missing and leaves random weights in its place; here that is refused.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers.initialization import no_init_weights

from logitproof.errors import ContractError, Refusal
from logitproof.files.causes import cause_of
from logitproof.reference import prequantized
from logitproof.reference.dequantize import OTHER_CONFIG, REPLACE, GgufWeights, first_few
from logitproof.reference.parts import of_any_layer
from logitproof.reference.places import Place, fill, place_in
from logitproof.weights.model import weight_files

LOCAL = {"local_files_only": True, "trust_remote_code": False}


def read_config(folder: Path) -> Any:
    """The text config of the HF folder, as that of a plain checkpoint; remote code is refused."""
    file = folder / "config.json"
    if not file.is_file():
        raise Refusal(f"no config.json in {folder}", field=str(folder), remedy="name a Hugging Face model folder")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
    except (ValueError, KeyError, OSError, TypeError) as error:
        remedy = "use an architecture that this transformers version knows, without remote code"
        raise Refusal(f"cannot read {file}: {cause_of(error)}", field=str(file), remedy=remedy) from error
    return of_any_layer(prequantized.forget(config).get_text_config())


def load_folder(folder: Path, config: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model of a safetensors folder and what to record about its loading."""
    plain = prequantized.opened(folder)
    names = plain.names if plain else _tensor_names(folder)
    source = {"state_dict": prequantized.state_of(plain)} if plain else {"use_safetensors": True}
    loader = _class_of(config, folder) if plain else transformers.AutoModelForCausalLM
    with _captured_log() as log:
        try:
            model, loading_info = loader.from_pretrained(
                None if plain else folder, config=config, output_loading_info=True, **source, **LOCAL, **options
            )
        except (RuntimeError, ValueError, OSError, SafetensorError) as error:
            reports = [" ".join(text.split()) for text in log if "LOAD REPORT" in text]
            text = f"cannot load {folder}: {cause_of(error)} {' '.join(reports)}"
            raise Refusal(text.strip(), field=str(folder), remedy=REPLACE) from error
    problems = [
        f"{kind.removesuffix('_keys')}: {first_few(sorted(str(name) for name in loading_info[kind]))}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
        if loading_info.get(kind)
    ]
    if problems:
        text = f"{folder} is not this model's checkpoint: {'; '.join(problems)}"
        raise Refusal(text, field=str(folder), remedy=REPLACE)
    _check_tied(model, folder)
    ignored = Counter(".".join(name.split(".")[:2]) for name in names if _is_ignored(model, name))
    return model, {"ignored_tensors": dict(ignored), **({"dequantized": plain.details} if plain else {})}


def load_gguf(file: Path, config: Any, dtype: torch.dtype, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model of `config` with the dequantized weights of a GGUF file, and what to record about it."""
    weights = opened_gguf(file, config)
    with no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False, **options)
    model.tie_weights()
    model.eval()
    buffers = {name: value for name, value in model.named_buffers() if name in model.state_dict()}
    parameters = dict(model.named_parameters()) | buffers
    filled = dict.fromkeys(parameters, 0)

    def place_of(name: str) -> Place:
        try:
            return place_in(parameters, name)
        except KeyError:
            text = f"{file.name} has a tensor for {name}, which the config's model does not have"
            raise Refusal(text, field=str(file), remedy=OTHER_CONFIG) from None

    with torch.no_grad():
        for piece in weights.pieces(place_of):
            fill(parameters[piece.place.name], piece)
            filled[piece.place.name] += piece.values.numel()
    short = sorted(name for name, count in filled.items() if count != parameters[name].numel())
    if short:
        raise Refusal(f"{file.name} does not fill {first_few(short)} exactly once", field=str(file), remedy=REPLACE)
    return model, {"tensor_types": weights.tensor_types, "rope_factors": compare_rope(model, config, weights)}


def opened_gguf(file: Path, config: Any) -> GgufWeights:
    """The file for a model of `config`, which is told whether its output matrix is the embedding."""
    weights = GgufWeights(file, {"architectures": [_class_name(config)], **config.to_dict()})
    if weights.ties_embeddings and not config.tie_word_embeddings:
        text = f"{file.name} has no output.weight, but the config does not tie it to the embedding"
        raise Refusal(text, field=str(file), remedy=OTHER_CONFIG)
    config.tie_word_embeddings = weights.ties_embeddings
    return weights


def _class_of(config: Any, folder: Path) -> Any:
    """The class of transformers that has the weights of such a config."""
    known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in known:
        text = f"{config.model_type!r} is no causal language model of transformers"
        raise Refusal(text, field=str(folder / "config.json"), remedy="give another model")
    return known[type(config)]


def _class_name(config: Any) -> str:
    """The class of transformers that a config's `architectures` would name."""
    known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    return str(known[type(config)].__name__) if type(config) in known else "nothing"


def compare_rope(model: Any, config: Any, weights: GgufWeights) -> str:
    """What the file's own frequency factors say; the reference follows the config either way."""
    rotary: Any = getattr(getattr(model, "model", None), "rotary_emb", None)
    plain = getattr(rotary, "compute_default_rope_parameters", None)
    if plain is None or not hasattr(rotary, "inv_freq"):
        return "not compared"
    in_file = weights.rope_factors()
    in_config = (plain(config)[0] / rotary.inv_freq.float().cpu()).numpy()
    if in_file is None:
        scales = bool(abs(in_config - 1).max() > 1e-4)
        return "absent from the file, and the config scales" if scales else "none"
    if in_file.shape != in_config.shape:
        return f"the file has {in_file.shape}, the config {in_config.shape}"
    worst = float(abs(in_file / in_config - 1).max())
    return f"{'agree' if worst < 1e-4 else 'disagree'} with the config, worst relative difference {worst:.1e}"


def _tensor_names(folder: Path) -> list[str]:
    """The name of every tensor of the folder; unreadable files are refused."""
    try:
        names: list[str] = []
        for file in weight_files(folder):
            with safe_open(file, "pt") as tensors:
                names.extend(tensors.keys())
        return names
    except (OSError, SafetensorError, ContractError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = f"{REPLACE}; weights are read from safetensors only"
        raise Refusal(f"cannot read the weights of {folder}: {cause_of(error)}", field=str(folder), remedy=remedy) from error


def _check_tied(model: Any, folder: Path) -> None:
    """A checkpoint may hold a tied tensor twice, but then with the same values; else transformers unties it."""
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if model.config.tie_word_embeddings and not tied:
        text = "lm_head.weight differs from the embedding that the config ties it to"
        raise Refusal(text, field=str(folder), remedy="set tie_word_embeddings: false in config.json, or remove it")


def _is_ignored(model: Any, name: str) -> bool:
    patterns = [*(model._keys_to_ignore_on_load_unexpected or ()), r"rotary_emb\.inv_freq"]
    return any(re.search(pattern, name) for pattern in patterns)


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """transformers names the tensors of a failed load only in its log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(re.sub(r"\x1b\[\d+m", "", record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
