"""Bugs of models that rotate only a part of each head."""
