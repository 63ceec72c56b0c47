"""The recipes: what is summed over users, and what a server makes of the released sums. numpy only; every function is
pure."""
