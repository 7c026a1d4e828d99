"""POST /slots/ID?action=save|restore|erase."""

import unicodedata
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import attrs

from api.decode import read
from api.errors import bad_request, not_supported
from api.gate import text_side
from api.http import ApiRequest, Response, json_response
from engine.bridge import TextEngine
from llamabox.services import Services

_MOST_NAME: Final = 255  # bytes that file systems take


@attrs.frozen(kw_only=True)
class SlotFileFields:
    filename: str


async def act(services: Services, request: ApiRequest) -> Response:
    """Save, restore or erase what a slot's last request left in the KV cache; waits while the slot is busy."""
    if not services.settings.server.slots:
        raise not_supported("This server does not show its slots: start it with --slots")
    folder = services.settings.server.slot_save_path
    if folder is None:
        raise not_supported("This server saves no slots: start it with --slot-save-path")
    engine, _ = text_side(services)
    slot = _slot(request, engine.info.n_slots)
    action = request.args.get("action", "")
    if action == "erase":
        return json_response({"id_slot": slot, "n_erased": await engine.erase_slot(slot)})
    if action not in {"save", "restore"}:
        raise bad_request("action must be save, restore or erase", "action")
    if not engine.info.can_copy_state:
        raise not_supported("The cached prompts of a model with a sliding window cannot be saved with --swa-full")
    name = _checked((await read(request, SlotFileFields)).filename)
    begin = perf_counter()
    counts = await (_save if action == "save" else _restore)(engine, slot, Path(folder) / name)
    elapsed = (perf_counter() - begin) * 1e3
    return json_response({"id_slot": slot, "filename": name, **counts, "timings": {f"{action}_ms": elapsed}})


async def _save(engine: TextEngine, slot: int, path: Path) -> dict[str, Any]:
    written = await engine.save_slot(slot, path)
    return {"n_saved": written.n_tokens, "n_written": written.n_bytes}


async def _restore(engine: TextEngine, slot: int, path: Path) -> dict[str, Any]:
    restored = await engine.restore_slot(slot, path)
    return {"n_restored": restored.n_tokens, "n_read": restored.n_bytes}


def _slot(request: ApiRequest, n_slots: int) -> int:
    given = (request.view_args or {}).get("id_slot", "")
    if not (given.isascii() and given.isdigit()) or len(given) > 4 or int(given) >= n_slots:
        raise bad_request(f"There is no slot {given!r}: there are 0 to {n_slots - 1}", "id_slot")
    return int(given)


def _checked(name: str) -> str:
    """A plain file name. Raises ApiError 400 for anything that could lead out of the directory."""
    if name in {"", ".", ".."} or "/" in name or "\\" in name:
        raise bad_request("filename must be a plain name, without a path", "filename")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise bad_request("filename has control characters", "filename")
    if len(name.encode()) > _MOST_NAME:
        raise bad_request(f"filename is longer than {_MOST_NAME} bytes", "filename")
    return name
