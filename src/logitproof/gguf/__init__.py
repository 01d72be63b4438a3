"""GGUF files: written from a checkpoint, read back as vocabulary, tensors and metadata."""
