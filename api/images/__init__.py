"""The images API: requests to engine requests, events to answers."""
