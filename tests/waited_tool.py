"""Runs `llama-perplexity` by its own function and waits for its logger: the program ends before its last lines are written.

The program is `llama_perplexity(argc, argv)` of the library beside it and nothing else; its lines go through a thread, which
`common_log_pause` lets write all that it has.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

LIBRARY, COMMON = "libllama-perplexity-impl.so", "libllama-common.so"
RUN, LOGGER, PAUSE = "_Z16llama_perplexityiPPc", "_Z15common_log_mainv", "_Z16common_log_pauseP10common_log"


def main(program: str, *arguments: str) -> int:
    """The program's own exit code."""
    folder = Path(program).resolve().parent
    tool, common = (ctypes.CDLL(str(folder / name)) for name in (LIBRARY, COMMON))
    words = [word.encode() for word in (program, *arguments)]
    code = int(tool[RUN](len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None)))
    logger, pause = common[LOGGER], common[PAUSE]
    logger.restype, pause.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pause(logger())
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
