"""Overlay, proof and review in figures: text sync at speed, what a command's folder costs, hunks, proofs, memory.

    python tests/bench/review.py [--rounds 20] [--package PATH_TO_A_PACKAGE_WITH_TESTS ...]

With packages (a repository with a test suite that runs in this environment) it also says what a proof of a change that
breaks a test, and of one that does not, takes and finds.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import forked  # noqa: E402
from bench import big_file, p99, rss_mb  # noqa: E402
from kit import call, finish, lay, permit, workspace  # noqa: E402
from raw_client import RawClient  # noqa: E402
from redline_agent.config import Config  # noqa: E402
from redline_agent.context.gather import Task  # noqa: E402
from redline_agent.models.scripted import ScriptedModel  # noqa: E402
from redline_agent.proof.servers import memory_bytes  # noqa: E402
from redline_agent.safety.keeper import Keeper  # noqa: E402
from redline_agent.safety.paths import Resolver  # noqa: E402
from redline_agent.safety.rules import built_in_rules  # noqa: E402
from redline_agent.safety.sandbox import layers  # noqa: E402
from redline_agent.workspace.hunks import Origin, changes  # noqa: E402
from redline_agent.workspace.overlay import Overlay  # noqa: E402
from redline_agent.workspace.workbench import Workbench  # noqa: E402

forked.AT_ALL = False  # figures are of processes that start for real

BY = Origin(1, "c", "edit", "because")


def row(what, value, beside="", aim=""):
    print(f"{what:<58} {value:>12}  {beside:<46} {aim:>9}", flush=True)


def ms(seconds):
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


# ---- documents


def documents():
    from lsprotocol import types as lsp
    from pygls.workspace import TextDocument

    def stock(text, edits):
        document = TextDocument("file:///a.py", text, 1, "python")
        began = time.perf_counter()
        for line, words in edits:
            at = lsp.Position(line, 0)
            document.apply_change(lsp.TextDocumentContentChangePartial(lsp.Range(at, at), words))
        return time.perf_counter() - began

    def ours(text, edits):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "ws"
            root.mkdir()
            (root / "big.py").write_text(text)
            with RawClient(root) as client:
                client.initialize(root)
                uri = client.open(root / "big.py")
                span = {"start": {"line": 9, "character": 0}, "end": {"line": 9, "character": 0}}
                ask = {"textDocument": {"uri": uri}, "range": span, "context": {"diagnostics": []}}
                client.result("textDocument/codeAction", ask, timeout=60)
                began = time.perf_counter()
                for number, (line, words) in enumerate(edits):
                    at = {"line": line, "character": 0}
                    change = {"range": {"start": at, "end": at}, "text": words}
                    document = {"uri": uri, "version": 2 + number}
                    client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
                client.result("textDocument/codeAction", ask, timeout=60)
                return time.perf_counter() - began

    text = big_file()
    many = [(number * 4 % 4000, "#") for number in range(1000)]
    row(
        "1,000 changes on 5,000 lines, then code actions",
        ms(ours(text, many)),
        f"pygls's own sync alone {ms(stock(text, many))}",
        "200 ms",
    )
    large = ("x = 'some words that fill a line up to about a hundred characters or so, as code has them'\n" * 55_000)[
        : 5 * 2**20
    ]
    few = [(number * 2000, "# typed\n") for number in range(20)]
    row(
        "20 edits on a file of 5 MB, then code actions",
        ms(ours(large, few)),
        f"pygls's own sync alone {ms(stock(large, few))}",
        "1,000 ms",
    )


# ---- a command's folder


def tree(root, count):
    for number in range(count):
        path = root / f"d{number % 50}" / f"f{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"x = {number}\n" * 40)


async def one_command(root, found, rounds):
    overlay = Overlay(Resolver(root))
    keeper = Keeper(built_in_rules(), root, trusted=True)
    bench = Workbench(overlay, keeper, root.parent / "scratch", found=found)
    await bench.ready()
    took = []
    for number in range(rounds + 1):
        path = f"d0/f{number * 50}.py" if (root / f"d0/f{number * 50}.py").exists() else "d0/f0.py"
        overlay.write(path, f"y = {number}\n", BY, permit("write", path, f"y = {number}\n"))
        command = bench.command("true", ".")
        began = time.perf_counter()
        await asyncio.to_thread(bench._prepare, command)
        took.append(time.perf_counter() - began)
    await bench.close()
    return took


def folders(rounds):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        root.mkdir()
        tree(root, 5_000)
        os.sync()  # the disk is not to be busy with what the benchmark wrote itself
        for layer in layers.candidates():
            name = f"{layer.name}{', a copy' if layer.copies else ', the mount'}"
            took = asyncio.run(one_command(root, layers.Found(layer), rounds))
            aim = "150 ms" if layer.copies else "10 ms"
            beside = ""
            if layer.copies:  # the disk is most of it: what the system's own copy takes, there and then
                began = time.perf_counter()
                subprocess.run(["cp", "-r", root, root.parent / f"cp-{layer.name}"], check=True)
                beside = f" (cp -r beside it {ms(time.perf_counter() - began)})"
            row(
                f"an edit laid out for a command, 5,000 files, {name}",
                ms(statistics.median(took[1:])),
                f"the first {ms(took[0])}{beside}",
                aim,
            )


# ---- hunks


def hunks(rounds):
    old = big_file().splitlines(keepends=True)
    rewritten = [line.replace("value", "given") for line in old]
    other = [f"completely_other_{number} = {number}\n" for number in range(5_000)]
    shuffled = [*old[2_500:], *old[:2_500]]
    for name, new in (("each use renamed", rewritten), ("nothing alike", other), ("halves swapped", shuffled)):
        took = []
        for _ in range(max(3, rounds // 4)):
            began = time.perf_counter()
            changes(old, new)
            took.append(time.perf_counter() - began)
        row(f"hunks of a rewrite of 5,000 lines, {name}", ms(statistics.median(took)), "", "100 ms")


# ---- proofs


async def proven(root, edits, config, warm=True):
    """Seconds that each proof took, the last proposal, and the memory of each server."""
    ws = workspace(root)
    ws.memory.trust(ws.resolver.root)
    took, run = [], None
    try:
        for path, old, new in edits:
            model = ScriptedModel([call("edit", path=path, old=old, new=new), finish()])
            run = ws.new_run(Task("x"), model, config)
            marks = []
            async for event in ws.carry_out(run, model):
                if getattr(event, "text", "") == "Proving the proposal":
                    marks.append(time.perf_counter())
                if event.type == "proposed":
                    marks.append(time.perf_counter())
            took.append(marks[-1] - marks[0])
        memory = {name: memory_bytes(warm.child.process.pid) / 2**20 for name, warm in ws.servers._warm.items()}
    finally:
        await ws.close()
        ws.journal.close()
    return took, run, memory


def proofs(rounds):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REDLINE_STATE_DIR"] = str(Path(folder) / "state")
        root = Path(folder) / "ws"
        root.mkdir()
        files = {f"pkg/m{n}.py": f"def f{n}(x: int) -> int:\n    return x + {n}\n" for n in range(30)}
        lay(root, {"pkg/__init__.py": "", **files})
        config = Config(validate="never", plan="never", proof_tests="off")
        edits = [(f"pkg/m{n % 30}.py", f"return x + {n % 30}", f"return x - {n}") for n in range(rounds + 1)]
        took, _, memory = asyncio.run(proven(root, edits, config))
        warm = took[1:]
        row("proof of a one-file change, ruff and a type checker, warm", ms(statistics.median(warm)),
            f"p99 {ms(p99(warm))}, the first {ms(took[0])}", "1,000 ms")  # fmt: skip
        row("memory of the child servers", " + ".join(f"{mb:.0f} MB" for mb in memory.values()), ", ".join(memory))


def memory_of_the_server():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        root.mkdir()
        lay(root, {"a.py": "import os\nx: int = 1\n"})
        with RawClient(root) as client:
            client.initialize(root)
            uri = client.open(root / "a.py")
            client.do("redline.trust", {"uri": uri})
            client.run("remove unused", uri=uri)
            pid = client.process.pid
            whole, own = memory_bytes(pid) / 2**20, rss_mb(pid)
            row(
                "the server after a proof with two child servers",
                f"{own:.0f} MB",
                f"its children {whole - own:.0f} MB more",
            )


def packages(paths):
    for spec in paths:
        path, file, old, bad, good = spec.split("::")
        with tempfile.TemporaryDirectory() as folder:
            os.environ["REDLINE_STATE_DIR"] = str(Path(folder) / "state")
            root = Path(folder) / "ws"
            shutil.copytree(path, root, ignore=shutil.ignore_patterns(".git", "__pycache__"))
            config = Config(validate="never", plan="never", proof_seconds=300)
            for kind, new in (("breaks a test", bad), ("breaks none", good)):
                took, run, _ = asyncio.run(proven(root, [(file, old, new)], config))
                (item,) = [each for each in run.proposal.proof if each.check == "tests"]
                row(
                    f"{Path(path).name}: a change that {kind}",
                    ms(took[0]),
                    f"{item.state} {item.ok}: {item.detail.splitlines()[0][:90]}",
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--package", nargs="*", default=[], help="PATH::FILE::OLD::BREAKING::HARMLESS")
    args = parser.parse_args()
    packages(args.package)
    if not args.package:
        documents()
        folders(args.rounds)
        hunks(args.rounds)
        proofs(args.rounds)
        memory_of_the_server()


if __name__ == "__main__":
    main()
