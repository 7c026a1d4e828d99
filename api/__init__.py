"""HTTP: request and response shapes, routes, errors, limits, server-sent events. Knows no native library."""
