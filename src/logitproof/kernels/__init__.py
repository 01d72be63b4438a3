"""Single operations of an engine, measured against float64."""
