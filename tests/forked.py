"""Redline's processes, forked from one that has imported it already: the same code in a process of its own, 0.7 s earlier.

What is tested is what happens then. Starting for real is tested where that matters: `test_protocol.py`, the editors, the
command line's own tests, the benchmarks. REDLINE_TESTS_FORK=0 starts every process for real.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd

PRELOADED = ["redline_server.__main__", "redline_server.app", "redline_server.commands", "redline_server.runs",
             "redline_server.neighbours", "redline_agent.tools.registry", "redline_agent.cli", "anthropic"]  # fmt: skip
AT_ALL = sys.platform == "linux" and os.environ.get("REDLINE_TESTS_FORK") != "0"


def start(argv, command=None, *, cwd, env, **more):
    """Start `redline ARGV` (or another command, that one for real) on pipes."""
    if AT_ALL and command is None:
        return Forked(argv, cwd=cwd, env=env, **more)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command or [sys.executable, "-m", "redline_server", *argv], cwd=cwd, env=env, **pipes)


def run(argv, *, code="", cwd, env, timeout):
    """Run `redline ARGV` (or some code in its place) to its end, as `subprocess.run` with captured text does."""
    if not AT_ALL:
        command = [sys.executable, *(["-c", code] if code else ["-m", "redline_server"]), *argv]
        return subprocess.run(command, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)  # fmt: skip
    process = Forked(argv, cwd=cwd, env=env, code=code, stdin=subprocess.DEVNULL)
    with ThreadPoolExecutor(2) as pool:
        texts = [pool.submit(stream.read) for stream in (process.stdout, process.stderr)]
        try:
            process.wait(timeout)
        finally:
            process.kill()
        out, err = (each.result(timeout).decode() for each in texts)
    process.close()
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _main(code, argv, cwd, env, handles):
    for number, handle in enumerate(handles):
        os.dup2(handle.detach(), number)
    os.closerange(3, 1024)  # the pipes to whoever started it
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    sys.argv = ["redline", *argv]
    try:
        if code:
            exec(compile(code, "<test>", "exec"), {"__name__": "__main__"})
        else:
            from redline_server.__main__ import main

            sys.exit(main(argv))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()


class Forked:
    """A process as `subprocess.Popen` shows it, as far as tests ask: pipes, pid, poll, wait, kill, returncode."""

    def __init__(self, argv, *, cwd, env, code="", stdin=subprocess.PIPE):
        ours, theirs = [], []
        for number in range(3):
            if number == 0 and stdin == subprocess.DEVNULL:
                theirs.append(os.open(os.devnull, os.O_RDONLY))
                ours.append(None)
                continue
            read, write = os.pipe()
            theirs.append(write if number else read)
            ours.append(read if number else write)
        handles = [DupFd(each) for each in theirs]
        self._process = _context().Process(target=_main, args=(code, list(argv), str(cwd), dict(env), handles))
        self._process.start()
        for each in theirs:
            os.close(each)
        self.stdin = None if ours[0] is None else open(ours[0], "wb", buffering=0)
        self.stdout, self.stderr = open(ours[1], "rb"), open(ours[2], "rb")
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(["redline"], timeout)
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def close(self):
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)
