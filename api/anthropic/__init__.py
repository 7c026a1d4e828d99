"""Anthropic's Messages API over a chat."""
