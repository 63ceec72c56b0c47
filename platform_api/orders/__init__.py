"""Orders, what they grant, and the shelf that they are filled from."""
