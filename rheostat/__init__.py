"""Rheostat: the least inference compute that reaches the accuracy asked for, per query."""

__version__ = "0.1.0"
__all__ = ["__version__"]
