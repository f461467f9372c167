"""OpenAI's HTTP API: models, chat completions, completions, responses; each answer with its receipt."""
