"""What the APIs beside OpenAI's chat need to become a chat: typed parts, messages, a choice of tools."""
