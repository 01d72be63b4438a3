"""The acid test: probes in which a known bug cannot hide, and what an engine must agree with itself about."""
