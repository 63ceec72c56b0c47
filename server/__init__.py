"""The aggregation side: rounds, checkpoints, releases, publishing. Imports shared and flwr; never client or torch."""
