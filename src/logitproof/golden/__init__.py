"""References frozen into a file."""
