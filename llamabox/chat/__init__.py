"""Chat messages to prompt text: templates, what they can do, and the messages that suit them."""
