"""Bugs of rotary position embedding. To add one, put a file under the folder of what it gets wrong."""
