"""Bugs of the gated feed-forward block."""
