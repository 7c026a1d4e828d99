"""OpenAI's custom tools, which take text: to the model they are functions with one parameter of text."""
