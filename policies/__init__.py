"""How compute is spent: strategies, stop rules, the action catalogue, the vLLM backend and engine."""
