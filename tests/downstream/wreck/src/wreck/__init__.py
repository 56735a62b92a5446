"""Parts that fail, each in its own way."""
