"""Bugs of the gated feed-forward block. To add one, put a file here that says what it gets wrong."""
