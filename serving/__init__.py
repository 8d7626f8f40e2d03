"""Online: the OpenAI-compatible sidecar."""
