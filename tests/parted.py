"""A GGUF file put into several, as `llama-gguf-split` does: settings in the first, tensors by turns of the whole's order."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from logitproof.files.gguf import GgufFile
from logitproof.files.gguf_values import Tensor


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def place(number: int, count: int, tensors: int) -> list[bytes]:
    """The keys that say which part of how many a file is."""
    return [
        text("split.no") + struct.pack("<IH", 2, number),
        text("split.count") + struct.pack("<IH", 2, count),
        text("split.tensors.count") + struct.pack("<Ii", 5, tensors),
    ]


def parted(whole: Path, folder: Path, count: int, stem: str = "m") -> list[Path]:
    """The files `STEM-00001-of-COUNT.gguf` and so on in `folder`, of the same settings and tensors as `whole`."""
    file, content = GgufFile(whole), whole.read_bytes()
    last = max(field.offset for field in file.fields.values())
    keys = content[24 : content.index(text(file.tensors[0].name), last)]
    paths = [folder / f"{stem}-{number + 1:05}-of-{count:05}.gguf" for number in range(count)]
    size = -(-len(file.tensors) // count)
    for number, path in enumerate(paths):
        own, tensors = place(number, count, len(file.tensors)), file.tensors[number * size : (number + 1) * size]
        settings, more = (keys, len(file.fields)) if number == 0 else (b"", 0)
        path.write_bytes(_written(settings + b"".join(own), more + len(own), tensors))
    return paths


def _written(keys: bytes, count: int, tensors: Sequence[Tensor]) -> bytes:
    described, data = b"", b""
    for tensor in tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        described += text(tensor.name) + shape + struct.pack("<IQ", tensor.tensor_type, len(data))
        held = tensor.data.tobytes()
        data += held + bytes(-len(held) % 32)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), count) + keys + described
    return header + bytes(-len(header) % 32) + data
