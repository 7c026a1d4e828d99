"""The text engine: a pure scheduler and prefix cache, and the thread that runs them over a backend."""
