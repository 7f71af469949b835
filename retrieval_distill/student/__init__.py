"""The student: builds, loads and runs bi-encoders."""
