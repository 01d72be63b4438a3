"""A verdict with what it rests on, as data."""
