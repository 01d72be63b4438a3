"""The machine that this process runs on: what libraries choose their kernels by."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from logitproof.protocol.messages import Machine

FLAGS = frozenset(
    (
        *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"),
        *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
        *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme"),
    )
)
"""Flags of /proc/cpuinfo that libraries of linear algebra ask for; the others change no kernel."""


@functools.cache
def this_machine() -> Machine:
    """The machine of this process; under an emulator the emulated one, as far as it says so."""
    return Machine(architecture=host_machine(), processor=_processor(), flags=sorted(FLAGS & host_flags()))


def host_machine() -> str:
    """This machine's architecture as Linux calls it."""
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())


@functools.cache
def host_flags() -> frozenset[str]:
    """The flags of this processor in /proc/cpuinfo; none where there is no such file."""
    return frozenset(_cpuinfo("flags", "Features").split())


def _processor() -> str:
    return _cpuinfo("model name", "CPU part") or platform.processor()


def _cpuinfo(*names: str) -> str:
    """The first value of /proc/cpuinfo under one of these names, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")
