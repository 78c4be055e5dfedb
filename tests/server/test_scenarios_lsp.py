"""Some of the scenarios through the real server: ask, accept everything, compare the files."""

import tomllib
from pathlib import Path

import pytest
import txtar
from kit import disk, lay
from raw_client import CAPABILITIES, RawClient

TURNS_AWAY = {**CAPABILITIES, "window": {**CAPABILITIES.get("window", {}), "showMessage": {}}}
"""A client whose user dismisses every question."""

SCENARIOS = Path(__file__).parent.parent / "scenarios"


@pytest.mark.parametrize(
    "name",
    ["edit_wrong_then_mended", "files_created_moved_deleted", "builtin_rename_and_clean", "injected_instruction"],
)
@pytest.mark.slow
def test_scenario_through_lsp(name, folder, tmp_path):
    files = txtar.read(SCENARIOS / f"{name}.txtar")
    lay(folder, txtar.beneath(files, "before/"))
    before = disk(folder)
    model = "builtin"
    if "script.json" in files:
        (tmp_path / "script.json").write_text(files["script.json"])
        model = f"scripted:{tmp_path / 'script.json'}"
    task = tomllib.loads(files["task.toml"])
    with RawClient(folder, env={"REDLINE_MODEL": model}) as client:
        client.initialize(folder, capabilities=TURNS_AWAY)
        for path in before:
            client.open(folder / path)
        uri = {"uri": (folder / task["file"]).as_uri()} if "file" in task else {}
        run = client.run(task["instruction"], **uri)
        last = files["transcript"].splitlines()[-1]
        assert run["answer"].splitlines()[-1] == last.split(": ", 1)[-1]
        assert len(run["refusals"]) == files["transcript"].count("error: ")
        assert disk(folder) == before
        proposal = client.proposal(run["runId"])
        badged = {op["id"] for op in proposal["fileOperations"] if "badge" in op}
        if len(badged) == len(proposal["hunks"]) + len(proposal["fileOperations"]):
            assert (
                "one by one"
                in client.command("redline.accept", {"runId": run["runId"], "hunks": "all"})["error"]["message"]
            )
        else:
            client.do("redline.accept", {"runId": run["runId"], "hunks": "all"})

        def states():
            now = client.proposal(run["runId"])
            return {i["state"] for i in [*now["hunks"], *now["fileOperations"]] if i["id"] not in badged}

        client.wait(lambda: states() <= {"accepted"}, what="the accept")
        typed = {
            Path(u.removeprefix("file://")).relative_to(folder).as_posix(): text
            for u, (_, text) in client.documents.items()
        }
    gone = {Path(op["uri"]).name for op in proposal["fileOperations"] if op["kind"] in ("delete", "rename")}
    assert {**disk(folder), **{p: t for p, t in typed.items() if p not in gone}} == txtar.beneath(files, "after/")


def test_a_long_answer_is_a_read_only_file(folder, tmp_path):
    (tmp_path / "script.json").write_text(
        '[{"text": "One\\n\\n[link](command:redline.accept) \\u001b]52;c;x\\u0007 two"}]'
    )
    with RawClient(folder, env={"REDLINE_MODEL": f"scripted:{tmp_path / 'script.json'}"}) as client:
        client.initialize(folder)
        run = client.run("explain")
        assert run["state"] == "answered"
        shown = client.wait(lambda: next((r for r in client.requests if r["method"] == "window/showDocument"), None))
        assert "](" not in client.notes("window/showMessage")[-1]["message"]
        path = Path(shown["params"]["uri"].removeprefix("file://"))
        assert path.name == f"{run['runId']}.md"
        assert "\x1b" not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o400
