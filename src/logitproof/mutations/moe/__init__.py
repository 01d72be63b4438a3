"""Bugs of the mixture of experts. To add one, put a file here that says what it gets wrong."""
