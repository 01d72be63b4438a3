"""Known bugs of normalization."""
