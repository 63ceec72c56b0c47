"""A payment provider to develop and test against, with books of its own. Imports nothing of the service."""
