"""The reference opened up in this process: its parts, its noise, its planted bugs."""

import os

# Both are read once, by whichever module here first imports torch and transformers.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
