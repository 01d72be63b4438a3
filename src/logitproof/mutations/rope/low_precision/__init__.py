"""Bugs of angles that are computed in a narrow type."""
