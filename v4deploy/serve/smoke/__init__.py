"""The smoke test: does an OpenAI-compatible endpoint serve a model that makes sense."""
