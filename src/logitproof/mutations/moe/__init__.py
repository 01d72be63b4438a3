"""Bugs of the mixture of experts."""
