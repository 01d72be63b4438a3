"""The keys of a GGUF file below its architecture's name, and what is assumed where it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from logitproof.errors import ModelError
from logitproof.files.gguf import GgufFile

AGAIN = "convert the model again, or name the Hugging Face folder that it was made from as its config"


@dataclass(frozen=True)
class Assumed:
    """A value that the file does not say, and the rule that it is taken from."""

    key: str
    value: Any
    rule: str


class Metadata:
    """What a file says of its architecture. Numbers are the shortest decimals that the file's float32 holds."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file
        self.architecture = str(file.value("general.architecture"))
        self.tensors = {tensor.name: tensor for tensor in file.tensors}
        self.assumed: list[Assumed] = []
        self.keys = {
            name.removeprefix(f"{self.architecture}."): file.value(name)
            for name in file.fields
            if name.startswith(f"{self.architecture}.")
        }

    def need(self, key: str) -> Any:
        """The value of a key that every file of the family has; ModelError where this one has not."""
        if key not in self.keys:
            raise ModelError("is not there", where=self.where(key), remedy=AGAIN)
        return _plain(self.keys[key])

    def count(self, key: str) -> int:
        """A whole number, the same in every layer."""
        value = self.need(key)
        numbers = set(value) if isinstance(value, list) else {value}
        if len(numbers) != 1 or not all(isinstance(number, int) for number in numbers):
            raise self.refusal(key, f"is {value!s:.60}; one number for all layers is known")
        return int(numbers.pop())

    def by_layer(self, key: str, layers: int) -> list[int]:
        """A whole number for each layer, where a family has layers of several kinds; ModelError of any other length."""
        value = self.need(key)
        numbers = value if isinstance(value, list) else [value] * layers
        if len(numbers) < layers or not all(isinstance(number, int) for number in numbers):
            raise self.refusal(key, f"is {value!s:.60}; a number for each of {layers} layers is known")
        return [int(number) for number in numbers[:layers]]

    def largest(self, key: str, layers: int) -> int:
        """The number of the layers that have any: all of them have the same, or none. ModelError where they differ."""
        numbers = {number for number in self.by_layer(key, layers) if number}
        if len(numbers) > 1:
            raise self.refusal(key, f"has {sorted(numbers)!s:.60}; one number for all layers that have any is known")
        return numbers.pop() if numbers else 0

    def value(self, key: str, default: Any, rule: str) -> Any:
        """The value of a key, or what llama.cpp's loader takes where it is missing, which is noted with its rule."""
        if key in self.keys:
            return self.need(key)
        self.assume(key, default, rule)
        return default

    def optional(self, key: str, default: Any = None) -> Any:
        """The value of a key whose absence means `default` by the format itself: nothing is assumed."""
        return self.need(key) if key in self.keys else default

    def assume(self, key: str, value: Any, rule: str) -> None:
        """Note what no key of the file can say."""
        self.assumed.append(Assumed(key, value, rule))

    def has(self, tensor: str) -> bool:
        return tensor in self.tensors

    def values(self, tensor: str) -> np.ndarray:
        """A small tensor, float32."""
        return np.asarray(self.tensors[tensor].data, np.float32)

    def where(self, key: str) -> str:
        return f"{self.file.path}: {self.architecture}.{key}"

    def refusal(self, key: str, text: str) -> ModelError:
        return ModelError(text, where=self.where(key), remedy=AGAIN)


def _plain(value: Any) -> Any:
    """A float32 as the shortest decimal that rounds to it: the file's 9.999999747378752e-06 was written as 1e-05."""
    if isinstance(value, float):
        return float(str(np.float32(value)))
    return [_plain(item) for item in value] if isinstance(value, list) else value
