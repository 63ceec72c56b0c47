"""Snapshots of the catalogue for the federation: numbered, signed, never changed."""
