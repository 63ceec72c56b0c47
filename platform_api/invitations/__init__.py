"""Invitations: what a tenant's or researcher's program has to pin before it takes part in the federation."""
