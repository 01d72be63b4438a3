"""How far a right engine may be: tolerances with their provenance."""
