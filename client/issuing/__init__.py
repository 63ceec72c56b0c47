"""The issuer: who is on the list of parties. May import `shared`, and of `client` the writing of private files."""
