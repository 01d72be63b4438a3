"""Known bugs of the embedding: what the first layer gets."""
