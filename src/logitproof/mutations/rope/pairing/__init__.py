"""Bugs of which two dimensions of a head are rotated together."""
