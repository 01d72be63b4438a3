"""Rows of logits in, numbers a position out."""
