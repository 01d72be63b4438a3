"""Whether an engine keeps the protocol, rule by rule."""
