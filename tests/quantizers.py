"""Writers of quantized checkpoints, one a format, packed as publishers pack; they use nothing of the code under test.

`written(folder, out, format)` quantizes every projection of a plain model and writes what the format's publisher would.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
Stored = dict[str, tuple[str, Array]]
"""Type and values of every tensor by name; values of types that NumPy does not have are their bits."""
GROUP = 64
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NF4 = (-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
       0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0)  # fmt: skip
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def save(path: Path, tensors: Stored) -> None:
    """A safetensors file."""
    entries, at = {}, 0
    for name, (kind, values) in tensors.items():
        entries[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    data = b"".join(np.ascontiguousarray(values).tobytes() for _, values in tensors.values())
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def bfloat(values: Array) -> Array:
    """The bits of bfloat16, rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def e4m3_bits(values: Array) -> Array:
    """The nearest code of E4M3 to every value, found among all of them."""
    codes = np.arange(127)
    sizes = np.where(codes >> 3 == 0, (codes & 7) / 8 * 2.0**-6, (1 + (codes & 7) / 8) * 2.0 ** ((codes >> 3) - 7.0))
    nearest = np.abs(np.abs(values)[..., None] - sizes).argmin(-1)
    return (nearest | np.where(values < 0, 128, 0)).astype(np.uint8)


def e4m3(bits: Array) -> Array:
    codes = (bits & 127).astype(np.int64)
    sizes = np.where(codes >> 3 == 0, (codes & 7) / 8 * 2.0**-6, (1 + (codes & 7) / 8) * 2.0 ** ((codes >> 3) - 7.0))
    return np.where(bits & 128, -sizes, sizes).astype(np.float32)


def e2m1_codes(values: Array) -> Array:
    nearest = np.abs(np.abs(values)[..., None] - np.array(E2M1)).argmin(-1)
    return (nearest | np.where(values < 0, 8, 0)).astype(np.uint8)


def words(numbers: Array, bits: int) -> Array:
    """int32 [.., ceil(n × bits / 32)] of numbers [.., n], written bit by bit into one whole number a row."""
    rows = numbers.reshape(-1, numbers.shape[-1])
    count = math.ceil(numbers.shape[-1] * bits / 32)
    out = np.zeros((len(rows), count), np.uint32)
    for row, line in zip(out, rows, strict=True):
        total = sum(int(number) << (bits * place) for place, number in enumerate(line))
        row[:] = [total >> 32 * word & 0xFFFFFFFF for word in range(count)]
    return out.view(np.int32).reshape(*numbers.shape[:-1], count)


def asymmetric(weight: Array, bits: int, size: int) -> tuple[Array, Array, Array]:
    """Numbers [out, in], scales float16 [out, groups] and zeros [out, groups]."""
    groups = weight.reshape(len(weight), -1, size)
    low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
    scale = np.maximum((high - low) / ((1 << bits) - 1), 1e-4).astype(np.float16)
    zero = np.clip(np.round(-low / scale.astype(np.float32)), 0, (1 << bits) - 1)
    numbers = np.clip(np.round(groups / scale.astype(np.float32)[..., None]) + zero[..., None], 0, (1 << bits) - 1)
    return numbers.reshape(weight.shape).astype(np.uint8), scale, zero.astype(np.uint8)


def gptq(stem: str, weight: Array, bits: int = 4, *, ordered: bool = False) -> Stored:
    """Version 1: zeros less one; with `ordered` the groups are of inputs that are not beside one another."""
    inputs = weight.shape[1]
    order = np.random.default_rng(3).permutation(inputs) if ordered else np.arange(inputs)
    numbers, scale, zero = asymmetric(weight[:, order], bits, GROUP)
    back = np.argsort(order)
    index = (np.arange(inputs) // GROUP)[back].astype(np.int32)
    stored = (zero.astype(np.int32) - 1) % (1 << bits)
    return {
        f"{stem}.qweight": ("I32", words(numbers[:, back], bits).T.copy()),
        f"{stem}.qzeros": ("I32", words(stored.T, bits)),
        f"{stem}.scales": ("F16", scale.T.copy()),
        f"{stem}.g_idx": ("I32", index),
    }


def awq(stem: str, weight: Array) -> Stored:
    numbers, scale, zero = asymmetric(weight, 4, GROUP)

    def packed(table: Array) -> Array:
        eights = table.reshape(len(table), -1, 8)[..., list(AWQ_ORDER)]
        return words(eights.reshape(len(table), -1), 4)

    return {
        f"{stem}.qweight": ("I32", packed(numbers.T)),
        f"{stem}.qzeros": ("I32", packed(zero.T)),
        f"{stem}.scales": ("F16", scale.T.copy()),
    }


def packed(stem: str, weight: Array) -> Stored:
    """compressed-tensors' pack-quantized, asymmetric in groups, scales in bfloat16."""
    rows, columns = weight.shape
    groups = weight.reshape(rows, -1, GROUP)
    scale = bfloat(np.maximum((groups.max(-1) - groups.min(-1)) / 15, 1e-5))
    zero = np.clip(np.round(-8 - groups.min(-1) / widened(scale)), -8, 7)
    numbers = np.clip(np.round(groups / widened(scale)[..., None]) + zero[..., None], -8, 7)
    return {
        f"{stem}.weight_packed": ("I32", words((numbers.reshape(rows, columns) + 8).astype(np.uint8), 4)),
        f"{stem}.weight_scale": ("BF16", scale),
        f"{stem}.weight_zero_point": ("I32", words((zero + 8).astype(np.uint8).T, 4).T.copy()),
        f"{stem}.weight_shape": ("I64", np.array(weight.shape, np.int64)),
    }


def channels(stem: str, weight: Array) -> Stored:
    """compressed-tensors' float-quantized: FP8 with a scale a row, and a scale of activations that nobody needs."""
    scale = bfloat(np.abs(weight).max(1, keepdims=True) / 448)
    return {
        f"{stem}.weight": ("F8_E4M3", e4m3_bits(weight / widened(scale))),
        f"{stem}.weight_scale": ("BF16", scale),
        f"{stem}.input_scale": ("BF16", bfloat(np.ones(1))),
    }


def blocks(stem: str, weight: Array, size: int = 48) -> Stored:
    """DeepSeek's FP8, in blocks that do not divide the matrix."""
    down, across = math.ceil(weight.shape[0] / size), math.ceil(weight.shape[1] / size)
    scale = np.zeros((down, across), np.float32)
    numbers = np.zeros_like(weight)
    for row in range(down):
        for column in range(across):
            place = np.s_[row * size : (row + 1) * size, column * size : (column + 1) * size]
            scale[row, column] = np.abs(weight[place]).max() / 448
            numbers[place] = weight[place] / scale[row, column]
    return {f"{stem}.weight": ("F8_E4M3", e4m3_bits(numbers)), f"{stem}.weight_scale_inv": ("F32", scale)}


def microscaled(weight: Array) -> tuple[Array, Array]:
    """MXFP4: bytes [.., in / 2] and exponents [.., in / 32]."""
    groups = weight.reshape(*weight.shape[:-1], -1, 32)
    exponent = np.floor(np.log2(np.maximum(np.abs(groups).max(-1), 1e-30))) - 2
    codes = e2m1_codes(groups / 2.0 ** exponent[..., None]).reshape(weight.shape)
    return codes[..., ::2] | codes[..., 1::2] << 4, (exponent + 127).astype(np.uint8)


def mxfp4(stem: str, weight: Array) -> Stored:
    """compressed-tensors' mxfp4-pack-quantized."""
    data, exponents = microscaled(weight)
    return {f"{stem}.weight_packed": ("U8", data), f"{stem}.weight_scale": ("U8", exponents)}


def nvfp4(stem: str, weight: Array, *, modelopt: bool = True) -> Stored:
    whole = np.float32(np.abs(weight).max() / (6 * 448))
    groups = weight.reshape(len(weight), -1, 16)
    scale = e4m3_bits(np.abs(groups).max(-1) / 6 / whole)
    codes = e2m1_codes(groups / np.maximum(e4m3(scale) * whole, 1e-30)[..., None]).reshape(weight.shape)
    data = codes[:, ::2] | codes[:, 1::2] << 4
    if modelopt:
        return {
            f"{stem}.weight": ("U8", data),
            f"{stem}.weight_scale": ("F8_E4M3", scale),
            f"{stem}.weight_scale_2": ("F32", np.array(whole, np.float32)),
            f"{stem}.input_scale": ("F32", np.array(1, np.float32)),
        }
    return {
        f"{stem}.weight_packed": ("U8", data),
        f"{stem}.weight_scale": ("F8_E4M3", scale),
        f"{stem}.weight_global_scale": ("F32", np.array([1 / whole], np.float32)),
    }


def nf4(stem: str, weight: Array) -> Stored:
    """bitsandbytes with double quantization, the second table evenly spaced."""
    flat = weight.reshape(-1, GROUP)
    absmax = np.abs(flat).max(1)
    codes = np.abs((flat / absmax[:, None])[..., None] - np.array(NF4)).argmin(-1).astype(np.uint8).reshape(-1)
    offset, table = np.float32(absmax.mean()), np.linspace(-1, 1, 256).astype(np.float32)
    count = math.ceil(len(absmax) / 256)
    rest = np.pad(absmax - offset, (0, count * 256 - len(absmax))).reshape(count, 256)
    nested = np.maximum(np.abs(rest).max(1), 1e-12).astype(np.float32)
    places = np.abs((rest / nested[:, None])[..., None] - table).argmin(-1).astype(np.uint8).reshape(-1)[: len(absmax)]
    state = {"quant_type": "nf4", "blocksize": GROUP, "dtype": "float16", "shape": list(weight.shape)}
    state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)}
    name = f"{stem}.weight"
    return {
        name: ("U8", (codes[::2] << 4 | codes[1::2])[:, None]),
        f"{name}.absmax": ("U8", places),
        f"{name}.quant_map": ("F32", np.array(NF4, np.float32)),
        f"{name}.nested_absmax": ("F32", nested),
        f"{name}.nested_quant_map": ("F32", table),
        f"{name}.quant_state.bitsandbytes__nf4": ("U8", np.frombuffer(json.dumps(state).encode(), np.uint8)),
    }


def int8(stem: str, weight: Array) -> Stored:
    """LLM.int8."""
    largest = np.abs(weight).max(1)
    numbers = np.round(weight / largest[:, None] * 127).astype(np.int8)
    order = ("U8", np.array(0, np.uint8))
    return {f"{stem}.weight": ("I8", numbers), f"{stem}.SCB": ("F32", largest), f"{stem}.weight_format": order}


def compressed(number_type: str, bits: int, format_name: str, **weights: Any) -> dict[str, Any]:
    scheme = {"num_bits": bits, "type": number_type, **weights}
    groups = {"group_0": {"targets": ["Linear"], "weights": scheme}}
    return {"quant_method": "compressed-tensors", "format": format_name, "ignore": ["lm_head"], "config_groups": groups}


FORMATS: dict[str, tuple[Callable[[str, Array], Stored], dict[str, Any], float]] = {
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}, 0.12),
    "gptq act-order": (
        lambda stem, weight: gptq(stem, weight, ordered=True),
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True, "sym": False},
        0.12,
    ),
    "gptq 3 bits": (
        lambda stem, weight: gptq(stem, weight, 3),
        {"quant_method": "gptq", "bits": 3, "group_size": GROUP, "desc_act": False},
        0.25,
    ),
    "gptq 8 bits": (
        lambda stem, weight: gptq(stem, weight, 8),
        {"quant_method": "gptq", "bits": 8, "group_size": GROUP, "desc_act": False},
        0.01,
    ),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}, 0.12),
    "pack-quantized": (
        packed,
        compressed("int", 4, "pack-quantized", symmetric=False, strategy="group", group_size=GROUP),
        0.12,
    ),
    "float-quantized": (channels, compressed("float", 8, "float-quantized", symmetric=True, strategy="channel"), 0.03),
    "fp8 blocks": (blocks, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [48, 48]}, 0.03),
    "mxfp4": (
        mxfp4,
        compressed("float", 4, "mxfp4-pack-quantized", strategy="group", group_size=32, scale_dtype="torch.uint8"),
        0.18,
    ),
    "nvfp4": (nvfp4, {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 0.12),
    "nvfp4-pack-quantized": (
        lambda stem, weight: nvfp4(stem, weight, modelopt=False),
        compressed("float", 4, "nvfp4-pack-quantized", symmetric=True, strategy="tensor_group", group_size=16),
        0.12,
    ),
    "nf4": (nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 0.11),
    "int8": (int8, {"quant_method": "bitsandbytes", "load_in_8bit": True}, 0.01),
}
"""How a format is written, what config.json says, and the most that the relative RMS error of a Gaussian matrix may be."""


def written(folder: Path, out: Path, name: str) -> Path:
    """The model of `folder` (one file, bfloat16) with every projection of its layers in a format."""
    writer, stated, _ = FORMATS[name]
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors"))
    stored: Stored = {}
    for tensor, (kind, values) in read(folder / "model.safetensors").items():
        if tensor.endswith("_proj.weight"):
            stored |= writer(tensor.removesuffix(".weight"), widened(values) if kind == "BF16" else values.astype(np.float32))
        else:
            stored[tensor] = (kind, values)
    save(out / "model.safetensors", stored)
    state_quantization(out, stated)
    return out


def state_quantization(folder: Path, stated: Any, key: str = "quantization_config") -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, key: stated}))


def read(path: Path) -> Stored:
    """Every tensor of a safetensors file; bfloat16 and eight bits as their bits."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    kinds = {"BF16": "<u2", "F32": "<f4", "F16": "<f2", "I32": "<i4", "I64": "<i8", "U8": "u1", "I8": "i1", "F8_E4M3": "u1"}
    tensors: Stored = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + start : 8 + size + end], kinds[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = (entry["dtype"], values)
    return tensors
