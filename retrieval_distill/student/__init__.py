"""The student: building a bi-encoder and putting it to work."""
