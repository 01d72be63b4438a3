"""Bugs of gated short convolutions: their gates, their taps and their state."""
