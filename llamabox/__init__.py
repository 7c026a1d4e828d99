"""What belongs neither to HTTP nor to an engine: settings, life cycle, logs, metrics, prompts, model files."""
