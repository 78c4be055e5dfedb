"""The Messages API on loopback: plays a script of replies as server-sent events, keeps every request.

An entry is {text?, thinking?, calls?, stop?} (a reply), {status, headers?, error?} (a refusal to start),
{..., drop_after: N} (the connection closes after N events) or {..., error_event: KIND} (an error in mid-stream).
"""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ClaudeServer:
    def __init__(self, script):
        self.script = list(script)
        self.requests = []
        self.seen_s = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                import time

                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.requests.append(body)
                owner.seen_s.append(time.monotonic())
                owner.headers = dict(self.headers)
                owner.answer(self, owner.script.pop(0) if owner.script else {"text": "nothing more"})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, handler, entry):
        if "status" in entry:
            kind = entry.get("error", "overloaded_error")
            body = json.dumps(
                {"type": "error", "error": {"type": kind, "message": entry.get("message", kind)}}
            ).encode()
            handler.send_response(entry["status"])
            for name, value in {"content-type": "application/json", **entry.get("headers", {})}.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            return
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for number, event in enumerate(events(entry, len(self.requests))):
                if number == entry.get("drop_after"):
                    break
                handler.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
                handler.wfile.flush()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def events(entry, number):
    usage = {"input_tokens": 50, "output_tokens": 1, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 900}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude", "content": []}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    index = 0
    if "thinking" in entry:
        start = {"type": "thinking", "thinking": "", "signature": ""}
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for part in entry["thinking"]:
            yield delta(index, {"type": "thinking_delta", "thinking": part})
        yield delta(index, {"type": "signature_delta", "signature": entry["signature"]})
        yield {"type": "content_block_stop", "index": index}
        index += 1
    if "text" in entry:
        yield {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        yield {"type": "ping"}
        half = len(entry["text"]) // 2
        for part in (entry["text"][:half], entry["text"][half:]):
            yield delta(index, {"type": "text_delta", "text": part})
        yield {"type": "content_block_stop", "index": index}
        index += 1
    for call in entry.get("calls", []):
        block = {"type": "tool_use", "id": f"toolu_{number}_{index}", "name": call["tool"], "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": block}
        raw = call["raw"] if "raw" in call else json.dumps(call["args"])
        for at in range(0, len(raw), 7):
            yield delta(index, {"type": "input_json_delta", "partial_json": raw[at : at + 7]})
        yield {"type": "content_block_stop", "index": index}
        index += 1
    if "error_event" in entry:
        yield {"type": "error", "error": {"type": entry["error_event"], "message": entry["error_event"]}}
        return
    stop = entry.get("stop", "tool_use" if entry.get("calls") else "end_turn")
    details = (
        {"stop_details": {"type": "refusal", "explanation": entry["why"], "category": None}} if "why" in entry else {}
    )
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": stop, "stop_sequence": None, **details},
        "usage": {"output_tokens": 30},
    }
    yield {"type": "message_stop"}


def delta(index, value):
    return {"type": "content_block_delta", "index": index, "delta": value}
