"""The demonstration: a generated marketplace, a federation deployed on this machine, and what it is worth."""
