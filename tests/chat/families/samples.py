"""Tools and calls whose arguments have every type that JSON has, and text that is awkward to quote."""

# ruff: noqa: RUF001 (the markers are spelled so)

from typing import Any, Final

type Call = tuple[str, dict[str, Any]]

# Names in alphabetical order: some templates sort them, and grammars keep the order of the schema.
TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "How the weather will be.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city", "days"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "store_note",
            "description": "Keeps a note for later.",
            "parameters": {
                "type": "object",
                "properties": {
                    "code": {"type": "string"},
                    "count": {"type": "integer"},
                    "draft": {"type": "boolean"},
                    "extra": {
                        "type": "object",
                        "properties": {
                            "depth": {
                                "type": "object",
                                "properties": {"ok": {"type": "boolean"}, "who": {"type": "string"}},
                                "required": ["ok", "who"],
                                "additionalProperties": False,
                            },
                            "list": {"type": "array", "items": {"type": ["number", "null", "string"]}},
                        },
                        "required": ["depth", "list"],
                        "additionalProperties": False,
                    },
                    "parent": {"type": ["string", "null"]},
                    "ratio": {"type": "number"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "text": {"type": "string"},
                    "title": {"type": "string"},
                },
                "required": ["code", "count", "draft", "extra", "parent", "ratio", "tags", "text", "title"],
                "additionalProperties": False,
            },
        },
    },
]

# The template writes these alike in every family.
PLAIN: Final[tuple[Call, ...]] = (
    ("get_weather", {"city": "Zürich", "days": 3}),
    ("get_weather", {"city": "São Paulo\n(the city)", "days": 12}),
)

FULL: Final[tuple[Call, ...]] = (
    (
        "store_note",
        {
            "code": "007",  # a string, whatever it looks like
            "count": -42,
            "draft": True,
            "extra": {"depth": {"ok": False, "who": "it's me"}, "list": [1, 2.5, None, 'a "b"']},
            "parent": None,
            "ratio": 0.125,
            "tags": ["x", "y, z", "]"],
            "text": 'She said "it\'s {fine}",\n\tthen: \\o/ – ✓ 日本語 😀',
            "title": '<b>{"a": [1]}</b>',
        },
    ),
    ("get_weather", {"city": "Oslo", "days": 0}),
)

CONTENT: Final = "Let me see: 1 < 2 [maybe]."
REASONING: Final = "They want to know.\n\nI should {look} <it> up."
