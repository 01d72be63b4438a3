"""Which kernels PyTorch's libraries choose, by what they print: oneDNN's and MKL's own lines, held up on their way out.

Only where the environment asks for those lines (`ONEDNN_VERBOSE`, `MKL_VERBOSE`). Absence proves nothing, so that a
library that prints no line is made to name its limit, and a product that neither computes is ATen's own.
"""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ASKED = ("ONEDNN_VERBOSE", "MKL_VERBOSE")
STDOUT = 1
LIMIT = re.compile(r"^onednn_verbose,(?:v\d+,)?info,cpu,isa:(.*)$", re.MULTILINE)
PRODUCT = re.compile(r"^onednn_verbose,(?:v\d+,)?(?:primitive,)?exec,cpu,(?:matmul|inner_product),([^,]+),", re.MULTILINE)
MKL = re.compile(r"^MKL_VERBOSE .*? for Intel\(R\) 64 architecture (.*?), Lnx", re.MULTILINE)
MKL_PRODUCT = re.compile(r"^MKL_VERBOSE (\w*GEM[MV]\w*)\(", re.MULTILINE)


class Kernels:
    """What the libraries of this process have printed; `report` is of the pass that was watched last."""

    def __init__(self) -> None:
        self.report: dict[str, str] = {}
        self._onednn = self._mkl = ""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Read what is printed inside, and lay it down in `report`; nothing where the environment does not ask for it."""
        if not all(os.environ.get(name, "0") != "0" for name in ASKED):
            yield
            return
        with _Held() as held:
            yield
            if not (self._onednn or LIMIT.search(held.read())):
                # The smallest work of oneDNN makes it print its limit; its lines are no product's.
                torch.ones(4, 4).to_mkldnn()
        text = held.text
        self._onednn = self._onednn or _first(LIMIT, text)
        self._mkl = self._mkl or _first(MKL, text)
        self.report = self._reported(text)

    def _reported(self, text: str) -> dict[str, str]:
        capability = torch.backends.cpu.get_cpu_capability()
        products = Counter(f"oneDNN {kernel} on {self._onednn}" for kernel in PRODUCT.findall(text))
        products.update(f"MKL {kernel} on {self._mkl}" for kernel in MKL_PRODUCT.findall(text))
        return {
            "aten": capability,
            "onednn": self._onednn,
            "mkl": self._mkl,
            "matmul": "; ".join(sorted(products)) or f"ATen {capability}, none of oneDNN and none of MKL",
            "matmul_calls": "; ".join(f"{count} {kernel.split(' on ')[0]}" for kernel, count in sorted(products.items())),
        }


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1].strip() if match else ""


class _Held:
    """File descriptor 1 led into a file; C libraries keep lines back, so they are flushed before each reading."""

    text = ""

    def __enter__(self) -> _Held:
        self._libc, self._file, self._kept = ctypes.CDLL(None), tempfile.TemporaryFile(), os.dup(STDOUT)
        self._libc.fflush(None)
        os.dup2(self._file.fileno(), STDOUT)
        return self

    def read(self) -> str:
        self._libc.fflush(None)
        size = os.fstat(self._file.fileno()).st_size
        self.text = os.pread(self._file.fileno(), size, 0).decode("utf-8", "replace")
        return self.text

    def __exit__(self, *_: object) -> None:
        self.read()
        os.dup2(self._kept, STDOUT)
        os.close(self._kept)
        self._file.close()
