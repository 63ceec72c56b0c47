"""The model registry: signed artifacts, the gate before them, and which one is live."""
