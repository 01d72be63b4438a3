"""Bugs of loading and converting weights. To add one, put a file here that says what it gets wrong."""
