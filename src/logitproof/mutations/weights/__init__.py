"""Bugs of loading and converting weights."""
