"""People, their roles, log-ins, and the machines of tenants and researchers."""
