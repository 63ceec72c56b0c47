"""Products, their versions and states, categories, and slots of consulting."""
