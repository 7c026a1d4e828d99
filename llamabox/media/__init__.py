"""Images and sounds that clients send: where they come from, what they hold, what the model gets of them."""
