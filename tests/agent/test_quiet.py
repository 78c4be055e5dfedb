"""A benign run is not nagged: everyday calls in the sandbox ask nothing, and really work."""

import asyncio
import shutil

import pytest
from kit import call, finish, lay, results, workspace
from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.models.scripted import ScriptedModel

PROJECT = {
    "pyproject.toml": "[project]\nname = 'demo'\nversion = '1'\n[tool.pytest.ini_options]\naddopts = '-p no:cacheprovider'\n",
    "src/demo.py": "import os\n\n\ndef add(a, b):\n    return a + b\n",
    "tests/test_demo.py": "import sys\n\nsys.path.insert(0, 'src')\nfrom demo import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
    "README.md": "# demo\n",
    "Makefile": "all:\n\techo built > out.txt\n",
    ".gitignore": "*.pyc\nout.txt\n",
    "package.json": '{"name": "demo", "version": "1.0.0", "scripts": {"test": "node -e \\"console.log(6*7)\\""}}\n',
    "crate/Cargo.toml": '[package]\nname = "demo"\nversion = "0.1.0"\nedition = "2021"\n',
    "crate/src/lib.rs": "pub fn two() -> i32 { 2 }\n#[test]\nfn it_is_two() { assert_eq!(two(), 2); }\n",
    "crate/.gitignore": "target/\nCargo.lock\n",
    "data.csv": "a,b\n1,2\n3,4\n",
}
GIT = "git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm first && git log --oneline | cat"
CALLS = [
    (call("list"), "src/"),
    (call("list", path="src"), "demo.py"),
    (call("read", path="src/demo.py"), "def add"),
    (call("read", path="README.md", start=1, end=1), "# demo"),
    (call("search", pattern="def add"), "src/demo.py:4"),
    (call("search", pattern="import", path="tests"), "test_demo.py"),
    (call("edit", path="src/demo.py", old="return a + b", new="return b + a"), "Edited"),
    (call("write", path="src/more.py", content="X = 1\n"), "Created"),
    (call("move", path="src/more.py", to="src/most.py"), "oved"),
    (call("organise_imports", path="src"), "rganise"),
    (call("fix_lint", path="src", rules="unused"), "emove unused"),
    (call("run", command="pytest -q"), "1 passed"),
    (call("run", command="python3 -m pytest -q tests/test_demo.py::test_add -x"), "1 passed"),
    (call("run", command="python3 -c 'print(6 * 7)'"), "42"),
    (call("run", command="ruff check src --output-format concise || true"), "exit code 0"),
    (call("run", command="ruff format src && cat src/most.py"), "X = 1"),
    (call("run", command="ls -la"), "README.md"),
    (call("run", command="ls", cwd="src"), "demo.py"),
    (call("run", command="cat src/demo.py | head -3"), "exit code 0"),
    (call("run", command="grep -rn add src tests | wc -l"), "exit code 0"),
    (call("run", command="cd src && pwd && ls"), "/src"),
    (call("run", command="find . -name '*.py' | sort"), "./src/demo.py"),
    (call("run", command="wc -l data.csv && sort data.csv | uniq -c"), "3 data.csv"),
    (call("run", command="sed -n 1,2p data.csv"), "a,b"),
    (call("run", command="awk -F, '{s += $1} END {print s}' data.csv"), "4"),
    (call("run", command="echo hi > /tmp/x && cat /tmp/x"), "hi"),
    (call("run", command="cat /tmp/x"), "hi"),
    (call("run", command="mkdir -p build && cp data.csv build/ && ls build"), "data.csv"),
    (call("run", command="echo '{\"a\": [1, 2]}' | python3 -m json.tool"), '"a"'),
    (call("run", command="diff README.md data.csv; true"), "# demo"),
    (call("run", command="test -f README.md && echo yes || echo no"), "yes"),
    (call("run", command="for f in src/*.py; do echo $f; done"), "src/demo.py"),
    (call("run", command="X=1; export X; env | grep ^X="), "X=1"),
    (call("run", command="date +%Y; uname -s; whoami; nproc"), "Linux"),
    (call("run", command="tar czf /tmp/a.tgz src && tar tzf /tmp/a.tgz"), "src/demo.py"),
    (call("run", command="head -c 100 /dev/urandom | base64 | wc -c"), "exit code 0"),
    (call("run", command="python3 - <<'X'\nimport sqlite3\nprint(sqlite3.connect(':memory:').execute('select 1').fetchone())\nX"), "(1,)"),
    (call("run", command="python3 -c \"import socket as s; a = s.create_server(('127.0.0.1', 0)); s.create_connection(a.getsockname()); print('local')\""), "local"),
    (call("run", command='python3 -c "import multiprocessing as m; print(sum(m.Pool(2).map(abs, [-1, -2])))"'), "3"),
    (call("run", command='python3 -c "import asyncio; print(asyncio.run(asyncio.sleep(0, 5)))"'), "5"),
    (call("run", command="python3 -m venv --without-pip /tmp/v && /tmp/v/bin/python -c 'print(1)'"), "1"),
    (call("run", command="echo one two | xargs -n1 echo"), "one"),
    (call("run", command="(sleep 0.1; echo later) & wait"), "later"),
    (call("run", command="false"), "exit code 1"),
    (call("run", command="nonexistent-program"), "exit code 127"),
    (call("run", command="printf 'x\\n' >> README.md && tail -1 README.md"), "x"),
    (call("run", command='python3 -c "import pydantic; print(pydantic.__file__)"'), "pydantic"),
    (call("run", command="seq 1 5 | tee /tmp/seq | paste -sd+ | bc 2>/dev/null || seq 1 5 | wc -l"), "5"),
    (call("run", command="timeout 5 python3 -c 'print(1)'"), "1"),
    (call("run", command="ps aux | wc -l; kill -0 $$ && echo mine"), "mine"),
]  # fmt: skip
WHERE_PRESENT = [
    ("git", call("run", command=GIT), "first"),
    ("git", call("run", command="git status --short; git diff | head -5; git stash list; git blame -s README.md 2>&1 | head -1"), "exit code 0"),
    ("make", call("run", command="make && cat out.txt"), "built"),
    ("npm", call("run", command="npm test --silent"), "42"),
    ("node", call("run", command="node -e \"require('child_process').exec('echo child', (e, o) => console.log(o))\""), "child"),
    ("cargo", call("run", command="cargo test --offline -q --lib 2>&1 | tail -5", cwd="crate"), "1 passed"),
    ("gcc", call("run", command="echo 'int main(){return 0;}' > /tmp/m.c && gcc /tmp/m.c -o /tmp/m && /tmp/m && echo compiled"), "compiled"),
    ("perl", call("run", command="perl -e 'print 6*7'"), "42"),
]  # fmt: skip


@pytest.mark.slow
def test_everyday_calls_ask_nothing_and_work(folder, monkeypatch):
    import os
    import pwd

    # toolchains lie in the real home folder, which the tests otherwise replace
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    lay(folder, PROJECT)
    wanted = CALLS + [(entry, expected) for program, entry, expected in WHERE_PRESENT if shutil.which(program)]
    assert len(wanted) >= 50
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)
    model = ScriptedModel([*(entry for entry, _ in wanted), finish()])
    asked = []

    async def person(question):
        asked.append(question)
        return "deny"

    async def go():
        from redline_agent.limits import Limits

        run = ws.new_run(Task("work"), model, Config(limits=Limits(turns_max=100)))
        return run, [event async for event in ws.carry_out(run, model, person)]

    run, events = asyncio.run(go())
    assert asked == []
    assert run.state == "proposed", run.answer
    wrong = [
        (entry["calls"][0]["args"], text)
        for (entry, expected), (_, text) in zip(wanted, results(events)[:-1], strict=True)
        if expected not in text
    ]
    assert wrong == []
    taken = {item.path for item in run.proposal.items}
    assert taken >= {"src/demo.py", "README.md", "build/data.csv"}
    assert not {
        path for path in taken if path.startswith((".git/", "crate/target", "node_modules")) or path == "out.txt"
    }
