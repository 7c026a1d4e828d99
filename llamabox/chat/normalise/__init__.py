"""One habit of clients or of templates a file: what it takes for the two to fit. Pure, plain dicts."""

from typing import Any

type Message = dict[str, Any]
