"""POST /slots/ID: gates, names, answers."""

from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineUnavailable, InvalidRequest, StorageError
from engine.slot_bridge import SlotFile
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine, make_info


@pytest.fixture
def saving(engine: FakeEngine, tmp_path: Path) -> Client:
    return Client(make_services(engine, slots=True, slot_save_path=str(tmp_path)))


async def test_save(saving: Client, engine: FakeEngine, tmp_path: Path) -> None:
    reply = await saving.post("/slots/1?action=save", {"filename": "a b.bin"})
    body = reply.json
    assert body.pop("timings")["save_ms"] >= 0
    assert (reply.status, body) == (200, {"id_slot": 1, "filename": "a b.bin", "n_saved": 12, "n_written": 3456})
    assert engine.slot_calls == [("save", 1, tmp_path / "a b.bin")]


async def test_restore(saving: Client, engine: FakeEngine, tmp_path: Path) -> None:
    reply = await saving.post("/slots/0?action=restore", {"filename": "ä.bin"})
    body = reply.json
    assert body.pop("timings")["restore_ms"] >= 0
    assert (reply.status, body) == (200, {"id_slot": 0, "filename": "ä.bin", "n_restored": 12, "n_read": 3456})
    assert engine.slot_calls == [("restore", 0, tmp_path / "ä.bin")]


@pytest.mark.parametrize("body", [None, {}, {"filename": "ignored"}])
async def test_erase_needs_no_body(saving: Client, engine: FakeEngine, body: Any) -> None:
    reply = await saving.post("/slots/0?action=erase", body)
    assert (reply.status, reply.json) == (200, {"id_slot": 0, "n_erased": 12})
    assert engine.slot_calls == [("erase", 0)]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "a/b", "../a", "a\\b", "a\nb", "a\0b", "\x7f", "\x85", "x" * 256, "ä" * 128],
)
@pytest.mark.parametrize("action", ["save", "restore"])
async def test_only_plain_names_are_taken(saving: Client, engine: FakeEngine, action: str, name: str) -> None:
    reply = await saving.post(f"/slots/0?action={action}", {"filename": name})
    assert (reply.status, reply.error["param"]) == (400, "filename")
    assert engine.slot_calls == []


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "...", "~", "-rf", "a:b", "%2e%2e%2f"])
async def test_odd_names_are_plain_ones(saving: Client, engine: FakeEngine, name: str, tmp_path: Path) -> None:
    assert (await saving.post("/slots/0?action=save", {"filename": name})).status == 200
    ((_, _, path),) = engine.slot_calls
    assert path.parent == tmp_path


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/slots/2?action=save", {"filename": "a"}, "id_slot"),
        ("/slots/x?action=save", {"filename": "a"}, "id_slot"),
        ("/slots/-1?action=save", {"filename": "a"}, "id_slot"),
        ("/slots/²?action=save", {"filename": "a"}, "id_slot"),
        ("/slots/99999999999999999999?action=erase", {}, "id_slot"),
        ("/slots/0", {"filename": "a"}, "action"),
        ("/slots/0?action=delete", {"filename": "a"}, "action"),
        ("/slots/0?action=save", {}, "filename"),
        ("/slots/0?action=save", {"filename": 1}, "filename"),
        ("/slots/0?action=restore", b"", None),
    ],
)
async def test_what_is_wrong_is_named(
    saving: Client, engine: FakeEngine, path: str, body: Any, param: str | None
) -> None:
    reply = await saving.post(path, body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert engine.slot_calls == []


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("the slot file a cannot be restored: it is damaged", "filename"), 400, "invalid_request_error"),
        (EngineUnavailable("the KV cache has no room"), 503, "unavailable_error"),
        (StorageError("the slot file a cannot be written: No space left"), 500, "server_error"),
    ],
)
async def test_what_goes_wrong_is_told(
    saving: Client, engine: FakeEngine, error: Exception, status: int, kind: str
) -> None:
    engine.slot_answer = error
    for action in ("save", "restore"):
        reply = await saving.post(f"/slots/0?action={action}", {"filename": "a"})
        assert (reply.status, reply.error["type"], reply.error["message"]) == (status, kind, str(error))


@pytest.mark.parametrize(
    ("server", "flag"), [({"slot_save_path": "/tmp"}, "--slots"), ({"slots": True}, "--slot-save-path")]
)
@pytest.mark.parametrize("action", ["save", "restore", "erase"])
async def test_both_flags_are_needed(engine: FakeEngine, server: dict[str, Any], flag: str, action: str) -> None:
    reply = await Client(make_services(engine, **server)).post(f"/slots/0?action={action}", {"filename": "a"})
    assert reply.status == 501
    assert flag in reply.error["message"]


async def test_a_model_whose_state_cannot_be_copied(tmp_path: Path) -> None:
    engine = FakeEngine(info=make_info(can_copy_state=False), slot_answer=SlotFile(3, 0))
    client = Client(make_services(engine, slots=True, slot_save_path=str(tmp_path)))
    for action, status in (("save", 501), ("restore", 501), ("erase", 200)):
        assert (await client.post(f"/slots/0?action={action}", {"filename": "a"})).status == status
