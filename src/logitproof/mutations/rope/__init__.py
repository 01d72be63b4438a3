"""Bugs of rotary position embedding."""
