"""Secure aggregation: the sum of a cohort's integer vectors, nothing else. Imports numpy, cryptography and shared."""
