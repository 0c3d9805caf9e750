"""A small server with OpenAI's chat API on loopback; what it does is chosen by the model's name in the request."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-loopback"


def completion(text, finish_reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "nemo", "choices": [choice]}


@dataclass
class LanguageModel:
    """A running server: its address, and every request it got."""

    url: str
    requests: list[dict] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)


def answer(model, prompt):
    """Status and body for one request."""
    answers = {
        "quoting": (200, completion(f'  "{prompt},\n softly lit"  ')),
        "echo": (200, completion(f" {prompt}\n")),
        "empty": (200, completion("   ")),
        "chatty": (200, completion("word " * 500)),
        "cut": (200, completion(f"{prompt}, and then", "length")),
        "silent": (200, completion(None)),
        "garbage": (200, completion("bad \x07 bell")),
        "html": (200, "<html>hello</html>"),
        "list": (200, []),
        "broken": (500, {"error": {"message": "the model crashed"}}),
        "missing": (404, {"error": {"message": "model not found, try pulling it first"}}),
        "huge": (200, completion("x" * 2_000_000)),
    }
    return answers.get(model, (200, completion(f"{prompt}, softly lit, oil on canvas")))


@contextmanager
def serving_language_model():
    """Run the server while the block runs."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model.requests.append({"path": self.path, **request})
            model.keys.append(self.headers["Authorization"])
            model.asked.set()
            if request["model"] == "asleep":
                ended.wait(60)
            status, body = answer(request["model"], request["messages"][-1]["content"])
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            try:
                self.send(data, slowly=request["model"] == "dripping")
            except ConnectionError:
                return

        def do_GET(self):
            body = {"object": "list", "data": [{"id": "nemo", "object": "model"}]}
            data = json.dumps(body).encode()
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def send(self, data, slowly):
            for start in range(0, len(data), 1 if slowly else len(data)):
                self.wfile.write(data[start : start + 1] if slowly else data)
                if slowly:
                    time.sleep(0.05)

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        model = LanguageModel(f"http://127.0.0.1:{server.server_address[1]}/v1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield model
        finally:
            ended.set()
            server.shutdown()
            thread.join()
