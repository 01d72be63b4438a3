"""Which known bug gives these very logits."""
