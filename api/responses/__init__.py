"""OpenAI's Responses API over a chat."""
