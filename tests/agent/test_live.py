"""How processes of one user reach each other, and nobody else does."""

import asyncio
import os
import stat

import pytest
from redline_agent import live

pytestmark = pytest.mark.skipif(not live.ABLE, reason="no sockets of this kind here")


async def said(message):
    return {"heard": message}


def asked(journal, message):
    async def go():
        ear = live.Ear(journal, said)
        await ear.open()
        assert ear.is_open
        try:
            (path,) = live.meeting_place(journal).glob("*.sock")
            return await asyncio.to_thread(live.ask, path, message, 5.0)
        finally:
            await ear.close()

    return asyncio.run(go())


def test_a_message_is_answered_to_the_user_alone(tmp_path, monkeypatch):
    journal = tmp_path / "journal.sqlite"
    assert asked(journal, {"do": "x"}) == {"heard": {"do": "x"}}
    monkeypatch.setattr(live, "_peer", lambda _connection: os.getuid() + 1)
    assert asked(journal, {"do": "x"}) is None


def test_the_place_is_the_users_alone_and_the_same_whatever_the_environment(tmp_path, monkeypatch):
    journal = tmp_path / "journal.sqlite"
    place = live.meeting_place(journal)
    assert stat.S_IMODE(place.stat().st_mode) == stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert live.meeting_place(journal) == place
    place.chmod(0o755)
    with pytest.raises(PermissionError):
        live.meeting_place(journal)
    place.chmod(0o700)


def test_a_place_with_a_short_name_is_in_the_state_folder(tmp_path, monkeypatch):
    short = tmp_path.parent.parent / "s"
    monkeypatch.setenv("REDLINE_STATE_DIR", str(short))
    monkeypatch.setattr(live, "NAME_BYTES_MAX", 200)
    assert live.meeting_place(tmp_path / "journal.sqlite").parent == short / "live"
