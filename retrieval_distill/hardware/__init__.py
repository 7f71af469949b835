"""Devices, dtypes and fast kernels."""
