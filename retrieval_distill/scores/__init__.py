"""Teacher scores: the store, import and export, statistics."""
