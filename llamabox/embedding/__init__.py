"""What lies between a request for vectors or scores and the engine: tokens before it, numbers after it."""
