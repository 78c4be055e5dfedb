"""Proposals as JSON values, for the journal: `load` gives back what `dump` wrote. Pure."""

from __future__ import annotations

from typing import Any

from redline_agent.workspace.filereview import FileReview, Hunk
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.proposal import FileOperation, ProofItem, Proposal
from redline_agent.workspace.textfile import TextFile


def dump(proposal: Proposal) -> dict[str, Any]:
    """Return the proposal as JSON values for the journal."""
    return {
        "run": proposal.run,
        "session": proposal.session,
        "instruction": proposal.instruction,
        "files": [
            {
                "path": review.path,
                "file": _dump_file(review.file),
                "moved_on": review.moved_on,
                "hunks": [_dump_hunk(hunk) for hunk in review.hunks],
            }
            for review in proposal.files.values()
        ],
        "operations": [
            {
                "id": op.id,
                "kind": op.kind,
                "path": op.path,
                "new_path": op.new_path,
                "reason": op.reason,
                "origin": _dump_origin(op.origin),
                "file": _dump_file(op.file) if op.file else None,
                "badge": op.badge,
                "depends_on": op.depends_on,
                "state": op.state,
                "mode": op.mode,
            }
            for op in proposal.operations
        ],
        "proof": [item.as_json() for item in proposal.proof],
        "notes": proposal.notes,
        "revision": proposal.revision,
        "around": proposal.around,
        "around_since": proposal.around_since,
        "made_s": proposal.made_s,
    }


def load(data: dict[str, Any]) -> Proposal:
    """Return the proposal that `dump` wrote."""
    files = {
        entry["path"]: FileReview(
            entry["path"],
            _load_file(entry["file"]),
            [_load_hunk(entry["path"], hunk) for hunk in entry["hunks"]],
            entry.get("moved_on", False),
        )
        for entry in data["files"]
    }
    operations = [
        FileOperation(
            id=op["id"],
            kind=op["kind"],
            path=op["path"],
            new_path=op["new_path"],
            reason=op["reason"],
            origin=Origin(**op["origin"]),
            file=_load_file(op["file"]) if op["file"] else None,
            badge=op["badge"],
            depends_on=tuple(op.get("depends_on", ())),
            state=op.get("state", "pending"),
            mode=op.get("mode", 0),
        )
        for op in data["operations"]
    ]
    proof = [ProofItem(**item) for item in data["proof"]]
    loaded = Proposal(data["run"], data["session"], data["instruction"], files, operations, proof, data["notes"])
    loaded.revision, loaded.made_s = data.get("revision", 1), data.get("made_s", 0.0)
    loaded.around, loaded.around_since = data.get("around", False), data.get("around_since", False)
    return loaded


def _dump_origin(origin: Origin) -> dict[str, Any]:
    return {"turn": origin.turn, "call_id": origin.call_id, "tool": origin.tool, "reason": origin.reason}


def _dump_file(file: TextFile) -> dict[str, Any]:
    executable = {"executable": True} if file.executable else {}
    return {"text": file.text, "encoding": file.encoding, "bom": file.bom.hex(), **executable}


def _load_file(data: dict[str, Any]) -> TextFile:
    return TextFile(data["text"], data["encoding"], bytes.fromhex(data["bom"]), data.get("executable", False))


def _dump_hunk(hunk: Hunk) -> dict[str, Any]:
    return {
        "id": hunk.id,
        "start": hunk.start,
        "end": hunk.end,
        "old": hunk.old,
        "new": hunk.new,
        "reason": hunk.reason,
        "origin": _dump_origin(hunk.origin),
        "depends_on": hunk.depends_on,
        "badge": hunk.badge,
        "state": hunk.before if hunk.state == "stale" else hunk.state,
    }


def _load_hunk(path: str, data: dict[str, Any]) -> Hunk:
    return Hunk(
        id=data["id"],
        path=path,
        start=data["start"],
        end=data["end"],
        old=tuple(data["old"]),
        new=tuple(data["new"]),
        reason=data["reason"],
        origin=Origin(**data["origin"]),
        depends_on=tuple(data["depends_on"]),
        badge=data["badge"],
        state=data.get("state", "pending"),
    )
