"""Teacher scores: the store, its keys, exchange and statistics."""
