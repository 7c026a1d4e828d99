"""Native engines behind plain Python: no HTTP, no JSON. Only ``engine.bridge`` touches Trio."""
