"""How models write reasoning, answers and tool calls: one description a format, for its parser and its grammar."""
