"""How fast things are, in ratios measured in one run."""
