"""Settings → what a sweep runs over: model, variants, windows and prompts."""
