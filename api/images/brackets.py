"""Lists and objects in a form as OpenAI's SDK writes them: ``a[]``, ``a[key]`` and ``a[][key]``."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from api.errors import bad_request

_NAME: Final = re.compile(r"(?P<field>\w+)(?P<list>\[\])?(?:\[(?P<key>\w+)\])?")


def nested(parts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The fields that names with brackets make up. Raises ApiError 400 for objects of a list that are not alike."""
    lists: defaultdict[str, list[str]] = defaultdict(list)
    objects: defaultdict[str, dict[str, str]] = defaultdict(dict)
    columns: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, text in parts:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        field, key = match["field"], match["key"]
        if key is None:
            lists[field].append(text)
        elif match["list"] is None:
            objects[field][key] = text
        else:
            columns[field][key].append(text)
    return {**lists, **objects, **{field: _rows(field, table) for field, table in columns.items()}}


def _rows(field: str, table: dict[str, list[str]]) -> list[dict[str, str]]:
    if len({len(column) for column in table.values()}) > 1:
        raise bad_request(f"{field}: each of its objects must have the same fields; or write it as JSON", field)
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
