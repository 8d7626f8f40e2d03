"""Rheostat: the least inference compute that reaches the accuracy asked for, per query."""
