"""A model larger than memory: its weights are read layer by layer, each once for all sequences.

The model is built without weights; `layerwise` runs its own code, and each part's weights are read when its turn comes and
given up behind it. Of an embedding the rows of the tokens are read alone, of experts those that a token is routed to. What
is computed is what the model in memory computes, to the last bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.initialization import no_init_weights

from logitproof.errors import Refusal
from logitproof.reference import checkpoint
from logitproof.reference import float64 as wide
from logitproof.reference.layerwise import Call, Ended, Entered, Layerwise
from logitproof.reference.model import Loading, Reference, config_folder, set_up_torch
from logitproof.reference.on_disk import FolderOnDisk, GgufOnDisk, OnDisk

FAMILIES = (
    "apertus", "arcee", "cohere2", "deepseek_v2", "deepseek_v3", "exaone4", "falcon_h1", "gemma", "gemma2", "gemma3_text",
    "gemma4_text", "glm4", "glm4_moe", "gpt_oss", "granite", "granitemoehybrid", "hunyuan_v1_dense", "kimi_linear", "lfm2",
    "llama", "llama4_text", "mamba2", "minimax_m2", "mistral", "nemotron_h", "olmo2", "olmo3", "phi3", "qwen2", "qwen2_moe",
    "qwen3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "seed_oss", "smollm3",
)  # fmt: skip
"""Model types whose folders are read part by part; of others transformers rebuilds tensors while it loads them."""
STACKED = ("gate_up_proj", "down_proj")
"""Parameters [X, ..] of the experts of a layer."""
EXPERTS_KEPT = 1 << 30
"""Bytes of experts' matrices that are kept for the next sequence while a layer is computed."""


class Streamed:
    """A model whose weights stay on disk. `passes` is all that it computes: the logits of many sequences."""

    def __init__(self, model: Path, config: Path | None, loading: Loading) -> None:
        set_up_torch(loading.device)
        _check(loading)
        folder = config_folder(model, config)
        settings = checkpoint.read_config(folder)
        if loading.dtype == "float64":
            wide.check_family(settings.model_type)
        if model.is_dir() and settings.model_type not in FAMILIES:
            text = f"a checkpoint of {settings.model_type!r} is not known to be read right part by part"
            raise Refusal(text, field="offload", remedy="leave `offload` out, or give a GGUF file of this model")
        opened = None if model.is_dir() else checkpoint.opened_gguf(model, settings)
        self._model = _hollow(settings, loading)
        parameters = _parameters(self._model)
        self._disk: OnDisk
        details: dict[str, Any] = {"offload": "stream"}
        if opened is None:
            patterns = [*(self._model._keys_to_ignore_on_load_unexpected or ()), r"rotary_emb\.inv_freq"]
            self._disk = FolderOnDisk(model, parameters, bool(settings.tie_word_embeddings), patterns)
        else:
            self._disk = GgufOnDisk(opened, parameters)
            details["rope_factors"] = checkpoint.compare_rope(self._model, settings, opened)
        self._fill_buffers()
        if loading.dtype == "float64":
            wide.widen_tables(self._model)
        self._layers = Layerwise(self._model)
        self._check_complete()
        length = getattr(settings, "max_position_embeddings", None)
        self.reference = Reference(self._model, folder, loading, length, {**self._disk.details, **details})

    def passes(self, sequences: Sequence[torch.Tensor]) -> Iterator[Ended | Entered]:
        """Logits [1, T, V] of every sequence of token ids [T], in the order in which they end; weights are read once."""
        exact = self.reference.loading.dtype == "float64"

        @contextmanager
        def within() -> Iterator[None]:
            with torch.inference_mode(), wide.float64() if exact else nullcontext():
                yield

        def function(ids: torch.Tensor) -> Any:
            return lambda: self._model(input_ids=ids[None], use_cache=False).logits

        with within():
            yield from self._layers.passes([function(ids) for ids in sequences], self._filled, within)

    @contextmanager
    def _filled(self, name: str, part: torch.nn.Module, calls: list[Call]) -> Iterator[None]:
        """The part with its weights, and behind that without them."""
        with ExitStack() as stack:
            with torch._C.DisableTorchFunction():  # what is read may be narrower than what is computed in
                for path, module in part.named_modules(prefix=name):
                    for leaf, parameter in list(module.named_parameters(recurse=False)):
                        stack.callback(module.register_parameter, leaf, parameter)
                        stack.callback(module.__dict__.pop, leaf, None)
                        delattr(module, leaf)
                        module.__dict__[leaf] = self._value(f"{path}.{leaf}", leaf, parameter, module, calls)
            if isinstance(part, torch.nn.Embedding):  # its number would be looked for among the rows that were read
                stack.callback(setattr, part, "padding_idx", part.padding_idx)
                part.padding_idx = None
            yield

    def _value(self, path: str, leaf: str, like: torch.Tensor, module: torch.nn.Module, calls: list[Call]) -> Any:
        name = self._tied(path)
        if isinstance(module, torch.nn.Embedding) and leaf == "weight":
            return self._table(name, like, calls)
        if leaf in STACKED and like.dim() == 3:
            return Experts(self._disk, name, like)
        return self._disk.parameter(name, like)

    def _table(self, name: str, like: torch.Tensor, calls: list[Call]) -> torch.Tensor:
        """An embedding of the rows that the calls ask for alone; their ids are changed to the rows' numbers in it."""
        asked = torch.cat([call.arguments[0].reshape(-1) for call in calls])
        ids, numbers = torch.unique(asked, return_inverse=True)
        start = 0
        for call in calls:
            tokens = call.arguments[0]
            call.arguments = (numbers[start : start + tokens.numel()].reshape(tokens.shape), *call.arguments[1:])
            start += tokens.numel()
        return torch.stack([self._disk.part(name, int(number), like) for number in ids])

    def _tied(self, path: str) -> str:
        tied = self._model.config.tie_word_embeddings and path == "lm_head.weight"
        return "model.embed_tokens.weight" if tied else path

    def _fill_buffers(self) -> None:
        """The few that are part of a checkpoint; they stay in memory."""
        kept = self._model.state_dict()
        for path, buffer in list(self._model.named_buffers()):
            if path in kept:
                module, _, leaf = path.rpartition(".")
                setattr(self._model.get_submodule(module), leaf, self._disk.parameter(path, buffer))

    def _check_complete(self) -> None:
        held = {f"{name}.{leaf}" for name, part in self._layers.parts.items() for leaf, _ in part.named_parameters()}
        outside = sorted(name for name, _ in self._model.named_parameters() if name not in held)
        if outside:
            text = f"{type(self._model).__name__} holds {outside[0]} outside of its layers"
            raise Refusal(text, field="offload", remedy="leave `offload` out for this family")


class Experts:
    """The stacked matrices [X, R, C] of a layer's experts, each read when it is used; whoever wants all gets all."""

    def __init__(self, disk: OnDisk, name: str, like: torch.Tensor) -> None:
        self._disk, self._name, self._like = disk, name, like
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._size = max(1, like[0].numel() * like.element_size())
        self._whole: torch.Tensor | None = None
        self.read = 0

    def __getitem__(self, index: Any) -> torch.Tensor:
        if self._whole is not None or not (isinstance(index, int) or (isinstance(index, torch.Tensor) and index.dim() == 0)):
            return self._all()[index]
        number = int(index)
        if number not in self._kept:
            with torch._C.DisableTorchFunction():
                self._kept[number] = self._disk.part(self._name, number, self._like)
            self.read += 1
            while len(self._kept) * self._size > EXPERTS_KEPT and len(self._kept) > 1:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all(), name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return function(*(_plain(value) for value in args), **{name: _plain(value) for name, value in (kwargs or {}).items()})

    def _all(self) -> torch.Tensor:
        if self._whole is None:
            with torch._C.DisableTorchFunction():
                self._whole = self._disk.parameter(self._name, self._like)
        return self._whole


def _plain(value: Any) -> Any:
    if isinstance(value, Experts):
        return value._all()
    return type(value)(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def _check(loading: Loading) -> None:
    if loading.device != "cpu":
        raise Refusal(
            f"offload: stream computes on the processor, not on {loading.device}", field="offload", remedy="leave it out"
        )
    if loading.adapter is not None:
        text = "offload: stream does not apply an adapter"
        raise Refusal(text, field="adapter", remedy="merge the adapter into the weights, or leave `offload` out")


def _hollow(settings: Any, loading: Loading) -> Any:
    """The model without weights: parameters have shape and type alone, tables that are computed are there."""
    options = {"attn_implementation": loading.attention, "experts_implementation": "eager"}
    with no_init_weights(), _without_weights():
        model = transformers.AutoModelForCausalLM.from_config(
            settings, dtype=getattr(torch, loading.dtype), trust_remote_code=False, **options
        )
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(_hollowed(parameter), requires_grad=False))
    model.tie_weights()
    return model.eval()


@contextmanager
def _without_weights() -> Iterator[None]:
    register = torch.nn.Module.register_parameter

    def registered(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        hollow = None if parameter is None else torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, hollow)

    torch.nn.Module.register_parameter = registered
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register


def _hollowed(parameter: torch.Tensor) -> torch.Tensor:
    """Shape and type without memory. It is NaN, so that a weight that is used outside of its part is never taken for one."""
    return torch.full((), torch.nan, dtype=parameter.dtype, device="cpu").expand(parameter.shape)


def _parameters(model: Any) -> dict[str, torch.Tensor]:
    """Every parameter by name, and every buffer that is part of a checkpoint."""
    kept = model.state_dict()
    return dict(model.named_parameters()) | {name: buffer for name, buffer in model.named_buffers() if name in kept}
