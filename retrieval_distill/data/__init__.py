"""Data: datasets under the user's own ids, their formats, and token ids."""
