"""Search in Chinese and English: tokens and ranking are ours, the database only finds candidates."""
