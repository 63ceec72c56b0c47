"""Consent by purpose, handing out and erasing all that is kept of a person, and histories for the federation."""
