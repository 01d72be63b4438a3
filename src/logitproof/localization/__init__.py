"""Where a difference starts: the first operation that is wrong on its own input."""
