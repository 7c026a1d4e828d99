"""The image engine: a first-come-first-served queue, and the thread that runs it over one model."""
