"""Settings → what a sweep runs over: model, candidates, windows and prompts."""
