"""What can change a logit of the reference beside its weights: libraries, and the instruction set as torch reports it."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "gguf", "numpy", "kernels", "fla-core")
BUILT_WITH = {"mkl": "Intel(R) oneAPI Math Kernel", "onednn": "Intel(R) MKL-DNN", "lapack": "LAPACK", "openmp": "OpenMP"}
ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "OMP_NUM_THREADS")


def versions() -> dict[str, str]:
    """Python, every package that is installed, and the libraries that torch was built with."""
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    built = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    return packages | {key: line for key, start in BUILT_WITH.items() for line in built if line.startswith(start)}


def instruction_set(device: str = "cpu") -> dict[str, str]:
    """What torch says of this processor, the variables that bound it, and the card where `device` is one."""
    report = {"aten": torch.backends.cpu.get_cpu_capability(), "machine": platform.machine()}
    report |= {name: os.environ[name] for name in ISA_VARIABLES if name in os.environ}
    if device.startswith("cuda") and torch.cuda.is_available():
        report["cuda_device"] = torch.cuda.get_device_name(device)
        report["cuda_version"] = str(torch.version.cuda)
        report["matmul_allow_tf32"] = str(torch.backends.cuda.matmul.allow_tf32)
        report["cudnn_allow_tf32"] = str(torch.backends.cudnn.allow_tf32)
    return report
