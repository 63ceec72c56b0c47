"""Recommendations from a live model and the buyer's own history, folded in at request time."""
