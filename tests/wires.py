"""Vendors' APIs on loopback: each plays a script of replies in its own wire format and keeps every request.

An entry is {text?, thought?, calls?: [{tool, args | raw}], stop?, usage?} (a reply; `stop` in our words), {status,
message?, code?, headers?, retry_s?} (a refusal to start), {..., drop: "cut" | "clean"} (the connection ends in
mid-reply, broken or closed), {..., fail: TEXT} (an error inside the stream), {body: TEXT} (what is no stream at all).
"""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from claude_server import events as claude_events

USAGE = {"input": 1000, "cached": 900, "output": 40}


class Wire:
    """What the vendors differ in."""

    name = ""
    model = ""
    key = ""
    base = ""
    path = ""
    native = True

    def lines(self, entry, number):
        """Server-sent events of a whole reply, as JSON values."""
        raise NotImplementedError

    def failure(self, text):
        """An error inside a stream."""
        return {"error": {"message": text, "type": "server_error", "code": "server_error", "param": None}}

    def refusal(self, entry):
        """The body of a refusal to start."""
        return {"error": {"message": entry.get("message", "no"), "code": entry.get("code"), "type": entry.get("code")}}

    def end(self):
        """What closes the stream."""
        return b""


class Claude(Wire):
    name, model, key, base = "anthropic", "claude-sonnet-5-5", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"

    def lines(self, entry, number):
        entry = dict(entry)
        stops = {"context_exceeded": "model_context_window_exceeded"}
        if "stop" in entry:
            entry["stop"] = stops.get(entry["stop"], entry["stop"])
        if "thought" in entry:
            entry |= {"thinking": [entry["thought"]], "signature": "sig+/="}
        return list(claude_events(entry, number))

    def failure(self, text):
        return {"type": "error", "error": {"type": "overloaded_error", "message": text}}

    def refusal(self, entry):
        return {
            "type": "error",
            "error": {"type": entry.get("code") or "api_error", "message": entry.get("message", "no")},
        }

    @staticmethod
    def results(request):
        last = request["messages"][-1]["content"]
        return [(b["tool_use_id"], b["content"], b["is_error"]) for b in last if b["type"] == "tool_result"]

    @staticmethod
    def calls(request):
        return [b["id"] for m in request["messages"] for b in m["content"] if b["type"] == "tool_use"]

    @staticmethod
    def thoughts(request):
        return [b["signature"] for m in request["messages"] for b in m["content"] if b["type"] == "thinking"]

    @staticmethod
    def fixed(request):
        return json.dumps([request["tools"], request["system"]])


class OpenAI(Wire):
    name, model, key, base = "openai", "gpt-5.5", "OPENAI_API_KEY", "OPENAI_BASE_URL"

    def lines(self, entry, number):
        out = [self._response("response.created", number, "in_progress", [])]
        items = []
        if "thought" in entry:
            items.append(
                {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": entry["thought"]}
            )
        if entry.get("text") and entry.get("stop") != "refusal":
            half = len(entry["text"]) // 2
            for part in (entry["text"][:half], entry["text"][half:]):
                out.append({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0,
                            "delta": part, "logprobs": []})  # fmt: skip
            text = {"type": "output_text", "text": entry["text"], "annotations": []}
            items.append({"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed",
                          "content": [text]})  # fmt: skip
        if entry.get("stop") == "refusal":
            part = {"type": "refusal", "refusal": entry.get("why", "No.")}
            items.append({"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed",
                          "content": [part]})  # fmt: skip
        for at, call in enumerate(entry.get("calls", [])):
            raw = call["raw"] if "raw" in call else json.dumps(call["args"])
            if call["tool"] in ("apply_patch", "shell"):
                body = {"apply_patch": "operation", "shell": "action"}[call["tool"]]
                items.append({"type": f"{call['tool']}_call", "id": f"v_{number}_{at}", "status": "completed",
                              "call_id": f"call_{number}_{at}", body: call["args"]})  # fmt: skip
                continue
            items.append({"type": "function_call", "id": f"fc_{number}_{at}", "call_id": f"call_{number}_{at}",
                          "name": call["tool"], "arguments": raw, "status": "completed"})  # fmt: skip
        out += [{"type": "response.output_item.done", "output_index": n, "item": i} for n, i in enumerate(items)]
        if entry.get("stop") == "context_exceeded":
            error = {"code": "context_length_exceeded", "message": "Your input exceeds the context window."}
            return [out[0], self._response("response.failed", number, "failed", [], error=error)]
        if entry.get("stop") == "max_tokens":
            return [*out, self._response("response.incomplete", number, "incomplete", items,
                                         incomplete_details={"reason": "max_output_tokens"})]  # fmt: skip
        return [*out, self._response("response.completed", number, "completed", items)]

    def _response(self, kind, number, status, items, **more):
        usage = {"input_tokens": USAGE["input"], "input_tokens_details": {"cached_tokens": USAGE["cached"]},
                 "output_tokens": USAGE["output"], "output_tokens_details": {"reasoning_tokens": 0},
                 "total_tokens": USAGE["input"] + USAGE["output"]}  # fmt: skip
        response = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": "m", "status": status,
                    "output": items, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                    "usage": None if status == "in_progress" else usage, **more}  # fmt: skip
        return {"type": kind, "response": response, "sequence_number": 0}

    @staticmethod
    def results(request):
        out = [(i["call_id"], i["output"], i["output"].startswith("Error")) for i in request["input"]
               if i.get("type") == "function_call_output"]  # fmt: skip
        last = [i for i in request["input"] if i.get("type") == "function_call"]
        ids = {i["call_id"].rsplit("_", 1)[0] for i in last[-1:]}
        return [each for each in out if each[0].rsplit("_", 1)[0] in ids]

    @staticmethod
    def calls(request):
        return [i["call_id"] for i in request["input"] if i.get("type") == "function_call"]

    @staticmethod
    def thoughts(request):
        return [i["encrypted_content"] for i in request["input"] if i.get("type") == "reasoning"]

    @staticmethod
    def fixed(request):
        return json.dumps([request["tools"], request["instructions"]])


class Gemini(Wire):
    name, model, key, base = "gemini", "gemini-2.5-pro", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"
    FINISH = {"max_tokens": "MAX_TOKENS", "refusal": "SAFETY"}

    def lines(self, entry, number):
        parts = [{"text": entry["text"]}] if entry.get("text") else []
        for at, call in enumerate(entry.get("calls", [])):
            part = {"functionCall": {"name": call["tool"], "args": call["args"], "id": f"g{number}_{at}"}}
            if "thought" in entry and at == 0:
                part["thoughtSignature"] = entry["thought"]
            parts.append(part)
        chunks = [{"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]} for part in parts]
        usage = {"promptTokenCount": USAGE["input"], "cachedContentTokenCount": USAGE["cached"],
                 "candidatesTokenCount": USAGE["output"], "totalTokenCount": USAGE["input"] + USAGE["output"]}  # fmt: skip
        finish = self.FINISH.get(entry.get("stop", ""), "STOP")
        return [*chunks, {"candidates": [{"finishReason": finish, "index": 0}], "usageMetadata": usage}]

    def failure(self, text):
        return {"error": {"code": 503, "message": text, "status": "UNAVAILABLE"}}

    def refusal(self, entry):
        error = {"code": entry["status"], "message": entry.get("message", "no"), "status": "X"}
        if "retry_s" in entry:
            error["details"] = [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{entry['retry_s']}s"}
            ]
        return {"error": error}

    @staticmethod
    def results(request):
        parts = [p["functionResponse"] for p in request["contents"][-1]["parts"] if "functionResponse" in p]
        return [(p["id"], str(p["response"]), "error" in p["response"]) for p in parts]

    @staticmethod
    def calls(request):
        return [p["functionCall"]["id"] for c in request["contents"] for p in c["parts"] if "functionCall" in p]

    @staticmethod
    def thoughts(request):
        found = [p for c in request["contents"] for p in c["parts"] if "thoughtSignature" in p]
        assert all("functionCall" in p for p in found)
        return [p["thoughtSignature"] for p in found]

    @staticmethod
    def fixed(request):
        return json.dumps([request["tools"], request["systemInstruction"]])


class Compatible(Wire):
    name, model, key, base = "compatible", "big-model", "OPENAI_API_KEY", "OPENAI_BASE_URL"

    def lines(self, entry, number):
        said = entry.get("text", "")
        half = len(said) // 2
        out = [self._chunk({"role": "assistant", "content": part}) for part in (said[:half], said[half:]) if part]
        if "thought" in entry:
            out.insert(0, self._chunk({"reasoning_content": entry["thought"]}))
        if entry.get("stop") == "refusal":
            out = [self._chunk({"role": "assistant", "refusal": entry.get("why", "No.")})]
        for at, call in enumerate(entry.get("calls", [])):
            raw = call["raw"] if "raw" in call else json.dumps(call["args"])
            function = {"name": call["tool"], "arguments": ""}
            out.append(
                self._chunk(
                    {"tool_calls": [{"index": at, "id": f"call_{at}", "type": "function", "function": function}]}
                )
            )
            out += [self._chunk({"tool_calls": [{"index": at, "function": {"arguments": raw[n : n + 9]}}]})
                    for n in range(0, len(raw), 9)]  # fmt: skip
        finish = {"max_tokens": "length"}.get(entry.get("stop", ""), "tool_calls" if entry.get("calls") else "stop")
        out.append(self._chunk({}, finish))
        usage = {"prompt_tokens": USAGE["input"], "completion_tokens": USAGE["output"],
                 "total_tokens": USAGE["input"] + USAGE["output"],
                 "prompt_tokens_details": {"cached_tokens": USAGE["cached"]}}  # fmt: skip
        return [
            *out,
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage},
        ]

    def _chunk(self, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    def end(self):
        return b"data: [DONE]\n\n"

    @staticmethod
    def results(request):
        out = []
        for message in reversed(request["messages"]):
            if message["role"] != "tool":
                if out or message["role"] == "assistant":
                    break
                continue
            out.insert(0, (message["tool_call_id"], message["content"], message["content"].startswith("Error")))
        return out

    @staticmethod
    def calls(request):
        return [c["id"] for m in request["messages"] for c in m.get("tool_calls", [])]

    @staticmethod
    def thoughts(request):
        return [m["reasoning_content"] for m in request["messages"] if "reasoning_content" in m]

    @staticmethod
    def fixed(request):
        return json.dumps([request.get("tools"), request.get("response_format"), request["messages"][0]])


class CompatibleJson(Compatible):
    """The second dialect: a reply is one JSON object."""

    model, native = "small-1.5b", False

    def lines(self, entry, number):
        if entry.get("calls"):
            call = entry["calls"][0]
            entry = {
                **entry,
                "text": call.get("raw") or json.dumps({"tool": call["tool"], **call["args"]}),
                "calls": [],
            }
        return super().lines(entry, number)

    @staticmethod
    def results(request):
        last = request["messages"][-1]["content"]
        return [("", last, "Error" in last)] if last.startswith("Result: ") else []

    @staticmethod
    def calls(request):
        return [m["content"] for m in request["messages"] if m["role"] == "assistant"]


WIRES = [Claude(), OpenAI(), Gemini(), Compatible(), CompatibleJson()]


class Server:
    """One vendor on loopback."""

    def __init__(self, wire, script):
        self.wire, self.script = wire, list(script)
        self.requests, self.headers = [], []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                owner.plain(self, 200, {"object": "list", "data": []})

            def do_POST(self):
                owner.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                owner.headers.append(dict(self.headers))
                owner.answer(self, owner.script.pop(0) if owner.script else {"text": "nothing more"})

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}" + ("/v1" if "OPENAI" in wire.base else "")
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def plain(self, handler, status, value, headers=()):
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        handler.send_response(status)
        for name, each in {"content-type": "application/json", **dict(headers)}.items():
            handler.send_header(name, each)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def answer(self, handler, entry):
        if "status" in entry:
            headers = entry.get("headers", {})
            if "retry_s" in entry:
                headers = {**headers, "retry-after": str(entry["retry_s"])}
            self.plain(handler, entry["status"], self.wire.refusal(entry), headers.items())
            return
        if "body" in entry:
            self.plain(handler, 200, entry["body"])
            return
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.send_header("connection", "close")
        handler.end_headers()
        lines = self.wire.lines(entry, len(self.requests))
        if "drop" in entry or "fail" in entry:
            lines = lines[:-2] or lines[:1]
        if "fail" in entry:
            lines.append(self.wire.failure(entry["fail"]))
        with contextlib.suppress(OSError):
            for line in lines:
                name = f"event: {line['type']}\n" if isinstance(self.wire, Claude) else ""
                self._chunk(handler, f"{name}data: {json.dumps(line)}\n\n".encode())
            if "drop" not in entry:
                self._chunk(handler, self.wire.end())
            if entry.get("drop") != "cut":
                handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    @staticmethod
    def _chunk(handler, data):
        if data:
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            handler.wfile.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
