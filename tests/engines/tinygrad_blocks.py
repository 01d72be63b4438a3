"""A product with a matrix in blocks of GGUF, unpacked in the kernel that multiplies, against the same matrix unpacked first.

    PYTHON tinygrad_blocks.py DEVICE TYPE [ROWS]

PYTHON has tinygrad; DEVICE is what tinygrad calls `DEV`, TYPE a type of blocks. Blocks are chance, their scales are not.
What is printed is how far the two products are apart, and how large they are. Exit code 1 where this is more than rounding.
"""

import os
import sys

import numpy as np

TYPES = {
    "Q4_0": (2, 18, 32, 2),
    "Q5_1": (7, 24, 32, 4),
    "Q8_0": (8, 34, 32, 2),
    "Q4_K": (12, 144, 256, 4),
    "Q5_K": (13, 176, 256, 4),
}
"""Number of the type, bytes and values of a block, bytes of scales at its beginning."""
SHAPE = (384, 256)
ROUNDING = 1e-5


def main(device: str, name: str, rows: int = 32) -> int:
    """Both products of `rows` rows with a matrix [384, 256]."""
    os.environ["DEV"] = device
    from tinygrad import Tensor
    from tinygrad.llm.gguf import ggml_data_to_tensor

    kind, size, values, scales = TYPES[name]
    count, random = SHAPE[0] * SHAPE[1], np.random.default_rng(0)
    blocks = random.integers(0, 256, (count // values, size), dtype=np.uint8)
    blocks[:, :scales] = np.array([0.01, 0.02], np.float16).view(np.uint8)[:scales]
    data = Tensor(blocks.reshape(-1)).realize()
    given = Tensor(random.standard_normal((rows, SHAPE[1])).astype(np.float32)).realize()
    matrix = ggml_data_to_tensor(data, count, kind).reshape(*SHAPE)
    first = given.matmul(matrix.contiguous().realize().T).numpy()
    fused = given.matmul(matrix.T).numpy()
    apart, largest = float(np.abs(fused - first).max()), float(np.abs(first).max())
    print(f"{name} on {device}: {apart:.4g} apart, the largest number is {largest:.4g}")
    return int(not apart <= ROUNDING * largest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
