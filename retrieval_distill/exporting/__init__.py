"""Models as graphs that run without PyTorch: written, made smaller, and checked against the model."""
