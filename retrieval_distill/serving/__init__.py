"""Search and embeddings over HTTP: a run's systems, behind one address, with the APIs that others' clients speak."""
