"""Bugs of the stretching of RoPE's frequencies for long contexts."""
