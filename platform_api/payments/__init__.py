"""Money: the provider behind an interface, its webhooks, refunds, the ledger, and reconciling all of them."""
