"""Bands calculated from the noise of an engine's own arithmetic, and what quantization takes of an error."""
