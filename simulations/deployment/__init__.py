"""A federation for real on one machine: certificates, processes, runs. May import client, server and shared."""
