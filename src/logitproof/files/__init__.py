"""Files that nobody vouches for: read with every number looked at, written in one step."""
