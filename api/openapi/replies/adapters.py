"""Replies about LoRA adapters and slot files."""

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class Adapter:
    id: int
    path: str
    scale: float


@attrs.frozen(kw_only=True)
class Success:
    success: Literal[True]


@attrs.frozen(kw_only=True)
class SaveTimings:
    save_ms: float


@attrs.frozen(kw_only=True)
class SlotSaved:
    id_slot: int
    filename: str
    n_saved: int
    n_written: int
    timings: SaveTimings


@attrs.frozen(kw_only=True)
class RestoreTimings:
    restore_ms: float


@attrs.frozen(kw_only=True)
class SlotRestored:
    id_slot: int
    filename: str
    n_restored: int
    n_read: int
    timings: RestoreTimings


@attrs.frozen(kw_only=True)
class SlotErased:
    id_slot: int
    n_erased: int
