"""Known bugs of arithmetic: right formulas, computed too coarsely or out of range."""
