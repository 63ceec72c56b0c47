"""How the database came to be what it is: one step after the other, each of which can be undone."""
