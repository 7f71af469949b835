"""Data: datasets under the user's own ids, the formats they come in, and token ids."""
