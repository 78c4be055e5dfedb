"""The Messages API on loopback for many runs at once: what it answers depends on the request alone.

`edits` are, by file, the edits (old, new) that a run over that file makes, or other calls, one a turn; then it finishes. Every request is counted by
file and turn, so that a test sees what was asked for twice.
"""

import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from claude_server import events


class SteadyServer:
    def __init__(self, edits, delay_s=0.0, on_request=None, input_tokens=50):
        self.edits = edits
        self.asked = Counter()
        self.answered = Counter()
        self.seen_s = []
        self.keys = set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.keys.add(self.headers["x-api-key"] or self.headers["authorization"].removeprefix("Bearer "))
                path, turn = owner.where(body)
                if path not in owner.edits:
                    self.send_error(400, f"{path} is not in the script")
                    return
                owner.seen_s.append(time.monotonic())
                owner.asked[path, turn] += 1
                if on_request:
                    on_request(path, turn)
                time.sleep(delay_s)
                steps = [*owner.edits[path], None]
                step = steps[min(turn, len(steps) - 1)]
                call = {"tool": "finish", "args": {"summary": f"done {path}"}}
                if isinstance(step, dict):
                    call = step
                elif step is not None:
                    call = {
                        "tool": "edit",
                        "args": {"path": path, "old": step[0], "new": step[1], "reason": f"step {turn}"},
                    }
                out = (
                    "".join(
                        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                        for event in events({"calls": [call]}, f"{path}-{turn}")
                    )
                    .replace('"input_tokens": 50', f'"input_tokens": {input_tokens}')
                    .encode()
                )
                try:
                    self.send_response(200)
                    self.send_header("content-type", "text/event-stream")
                    self.send_header("content-length", str(len(out)))
                    self.end_headers()
                    self.wfile.write(out)
                    self.wfile.flush()
                except OSError:
                    return
                owner.answered[path, turn] += 1

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a worker that was killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def where(self, body):
        first = json.dumps(body["messages"][0])
        named = re.search(r'targets\\*": \[\\*"([^"\\]+)', first)
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        return named[1] if named else "?", turn

    @property
    def twice(self):
        """How many requests were sent again."""
        return sum(count - 1 for count in self.asked.values())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
