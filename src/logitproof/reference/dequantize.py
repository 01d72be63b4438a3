"""The weights of a GGUF file under the names, shapes and conventions of transformers, dequantized tensor by tensor.

Which tensor of a checkpoint a GGUF tensor is made from, and how, says the layout of the family (`gguf/families.py`), which is
undone here; there is no second table of names. Shapes: X experts, F ffn width, E width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.quants import dequantize

from logitproof.errors import ContractError, ModelError, Refusal
from logitproof.files.causes import cause_of
from logitproof.files.gguf import GgufFile
from logitproof.files.gguf_values import Tensor
from logitproof.gguf.families import layout_of
from logitproof.gguf.layout import Layout, Planned
from logitproof.gguf.undo import undone
from logitproof.reference.places import Piece, Place, place_in

REPLACE = "fetch or convert the file again and compare its sha256"
OTHER_CONFIG = "name the config of the model it was made from"
PART = 2**21
"""Bytes of a tensor that are dequantized at once."""


class GgufWeights:
    """A GGUF file opened for a model of the transformers text config `config`, a dictionary of config.json's fields."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        try:
            self._reader = GgufFile(path)
            tied = all(tensor.name != "output.weight" for tensor in self._reader.tensors)
            self.layout = layout_of({**config, "tie_word_embeddings": tied}, str(path))
        except ContractError as error:
            text = f"cannot read {path.name}: {error.where}: {error.text}"
            raise Refusal(text, field=str(path), remedy=error.remedy) from error
        self.path, self._layers = path, int(config.get("num_hidden_layers") or len(config["layers_block_type"]))
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self._value("general.architecture"))
        if self.architecture != self.layout.name:
            text = f"{path.name} is of architecture {self.architecture!r}, a model of the config of {self.layout.name!r}"
            raise Refusal(text, field=str(path), remedy=OTHER_CONFIG)

    @property
    def ties_embeddings(self) -> bool:
        """Whether the output matrix is the embedding matrix: such files hold it once."""
        return "output.weight" not in self._tensors

    @property
    def tensor_types(self) -> dict[str, int]:
        """How many tensors there are of each GGUF type."""
        names = [tensor.tensor_type.name for tensor in self._reader.tensors]
        return {name: names.count(name) for name in sorted(set(names))}

    def rope_factors(self) -> np.ndarray | None:
        """What the file divides each inverse frequency by, [D/2], or None."""
        tensor = self._tensors.get("rope_freqs.weight")
        return None if tensor is None else np.array(tensor.data, np.float32)

    def present(self) -> Iterator[Planned]:
        """Every tensor of the file that fills something; names that mean nothing are refused together."""
        planned = {tensor.name: tensor for tensor in self.layout.tensors}
        foreign = sorted(name for name in self._tensors if name not in planned and not self._is_extra(name))
        if foreign and all(self._is_beyond(name) for name in foreign):
            last = f"model.layers.{self._layers - 1}, the config's last"
            text = f"{self.path.name} has layers beyond {last}: {first_few(foreign)}"
            raise Refusal(text, field=str(self.path), remedy=OTHER_CONFIG)
        if foreign:
            raise Refusal(
                f"{self.path.name} has tensors that no {self.architecture} model has: {first_few(foreign)}",
                field=str(self.path),
                remedy="convert the model again with the converter of this architecture",
            )
        for name, tensor in planned.items():
            if tensor.sources and name in self._tensors:
                yield tensor

    def pieces(self, place_of: Callable[[str], Place]) -> Iterator[Piece]:
        """Every tensor of the file once, one at a time."""
        for planned in self.present():
            yield from self.of(planned, place_of)
        for name, value in self.measured().items():
            yield Piece(place_of(name), torch.tensor([value], dtype=torch.float64))

    def measured(self) -> dict[str, float]:
        """Numbers of the checkpoint that are keys of the file and no tensors, by their names; Refusal of too few."""
        held: dict[str, float] = {}
        for key, names in self.layout.measured.items():
            values = self._value(key)
            numbers = values if isinstance(values, list) else [values] * len(names)
            if len(numbers) < len(names) or not all(isinstance(number, int | float) for number in numbers):
                text = f"{self.path.name} has {values!s:.60} as {key}, and {len(names)} numbers are needed"
                raise Refusal(text, field=str(self.path), remedy=REPLACE)
            held |= {name: float(number) for name, number in zip(names, numbers, strict=False)}
        return held

    def tensor(self, name: str) -> Tensor:
        """What the file says of a tensor, not read yet."""
        return self._tensors[name]

    def of(self, planned: Planned, place_of: Callable[[str], Place]) -> Iterator[Piece]:
        """What one tensor fills."""
        places = {name: place_of(name) for name in planned.sources}
        try:
            for part in undone(planned, self._read(planned.name), lambda name: places[name].shape):
                at = None if part.at is None else torch.from_numpy(part.at.astype(np.int64))
                yield Piece(places[part.name], torch.from_numpy(np.ascontiguousarray(part.values)), at)
        except ModelError as error:
            raise Refusal(f"{error.where} {error.text}", field=str(self.path), remedy=error.remedy) from None

    def _read(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        try:
            values = _in_parts(tensor)
            tensor.forget()
            return values.reshape(shape)
        except (ValueError, NotImplementedError, KeyError) as error:
            text = f"cannot dequantize {name} ({tensor.tensor_type.name}): {cause_of(error)}"
            raise Refusal(text, field=str(self.path), remedy=REPLACE) from error

    def _is_extra(self, name: str) -> bool:
        """Divisors of frequencies are a setting; blocks past the last layer are a draft head, which no logit depends on."""
        extra = self._value(f"{self.architecture}.nextn_predict_layers") or 0
        return name == "rope_freqs.weight" or bool(extra and self._is_beyond(name))

    def _is_beyond(self, name: str) -> bool:
        block = re.match(r"blk\.(\d+)\.", name)
        return bool(block and int(block[1]) >= self._layers)

    def _value(self, key: str) -> Any:
        return self._reader.value(key)


def _in_parts(tensor: Any) -> np.ndarray:
    """All numbers of a tensor, float32, a few rows at a time: what is made on the way is several times as much."""
    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    count = max(int(PART // max(rows.shape[-1], 1)), 1)
    first = np.asarray(dequantize(rows[:count], tensor.tensor_type), np.float32)
    values = np.empty((len(rows), first.shape[-1]), np.float32)
    values[: len(first)] = first
    for begin in range(count, len(rows), count):
        values[begin : begin + count] = dequantize(rows[begin : begin + count], tensor.tensor_type)
    return values


def parameters_of(layout: Layout, parameters: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The parameter of the model that holds a GGUF tensor's values (the first, of several), by the tensor's name."""
    return {planned.name: place_in(parameters, source).name for planned in layout.tensors for source in planned.sources[:1]}


def first_few(names: list[str]) -> str:
    """The first eight names, and how many more there are."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
