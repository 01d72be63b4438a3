"""Can another team believe it? A run as a signed statement, and the statement checked without an engine."""
