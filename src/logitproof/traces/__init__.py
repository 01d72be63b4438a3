"""What engines gave, on disk."""
