"""Self-hosting and deployment toolkit for the open DeepSeek V4 weights."""
