"""Reviews and ratings of products by those who bought them."""
