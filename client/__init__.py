"""Whoever holds histories: store, policy, ledger, training, ranking. May import shared, flwr; torch in tenant mode."""
