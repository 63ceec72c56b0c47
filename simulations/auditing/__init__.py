"""Attacks on the product, measured: each beside the statement it may not exceed and controls it must catch."""
