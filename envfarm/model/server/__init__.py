"""An OpenAI-compatible endpoint over the engine: bodies, replies as they come, conversations, routes, the process."""
