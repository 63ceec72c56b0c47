"""The public privacy ledger: what was released from people's histories, when, at what cost and against whom."""
