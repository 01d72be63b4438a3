"""The whole flow once, in a folder."""
