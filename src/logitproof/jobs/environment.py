"""What an engine's process gets of the harness's environment: what computing needs, and what is named; never a CI's secrets."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping

from logitproof.jobs.spec import Spec

ALLOWED = tuple(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TMPDIR TEMP TMP TERM XDG_* SYSTEMROOT
    PYTHON* VIRTUAL_ENV CONDA_* LD_* DYLD_* QEMU_* SDE_* *SAN_OPTIONS MALLOC_* GLIBC_TUNABLES COVERAGE_*
    OMP_* GOMP_* KMP_* MKL_* OPENBLAS_* GOTO_* BLIS_* BLAS_* VECLIB_* NUMEXPR_* NPY_* NUMBA_* DNNL_* ONEDNN_* XNNPACK_*
    ATEN_* TORCH* PYTORCH_* FBGEMM_* TRITON_* XLA_* JAX_* TF_*
    CUDA_* CUBLAS_* CUDNN_* NCCL_* NVIDIA_* HIP_* ROCR_* ROCM_* HSA_* GPU_* ZE_* SYCL_* MTL_* METAL_*
    GGML_* LLAMA_* HF_HOME HF_HUB_* HF_DATASETS_* TRANSFORMERS_* TOKENIZERS_* VLLM_* CT2_* OV_* OPENVINO_* ORT_* ONNX* MLX_*
    DEV LOGITPROOF_*
    """.split()  # noqa: SIM905 -- a list of as many literals says less
)
"""Names and patterns of variables that every engine gets."""
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|_KEY$|_PAT$|AUTH", re.IGNORECASE)
"""What a name says that no pattern lets through; `TOKENIZERS_PARALLELISM` and its like are no secrets."""
HARMLESS = re.compile(r"^TOKENIZERS_")


def environment_of(spec: Spec, outer: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the harness that an engine gets, and those that the contract sets."""
    outer = os.environ if outer is None else outer
    named = {*spec.inherit, *_named_by(spec.options)}
    return {**{name: text for name, text in outer.items() if name in named or _is_allowed(name)}, **spec.environment}


def _named_by(options: Mapping[str, object]) -> Iterable[str]:
    """Variables that an option names, as `api_key_env` does."""
    return [value for name, value in options.items() if name.endswith("_env") and isinstance(value, str)]


def _is_allowed(name: str) -> bool:
    if SECRET.search(name) and not HARMLESS.match(name):
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in ALLOWED)
