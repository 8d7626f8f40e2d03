"""Scorers: how good an answer is, by a reference, a judge, a reward model, or what a log has taught.

Each is a named object with the `score` of `policies.base`; what its own calls generate is booked as verifier tokens, and
what it cannot tell is an abstention.
"""
