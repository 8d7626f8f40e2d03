"""What is known: records, outcome store, task sets, answers, verifiers."""
