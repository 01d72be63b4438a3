"""Bugs of models with several residual streams (Gemma 3n): alternating updates, and LAuReL beside them."""
