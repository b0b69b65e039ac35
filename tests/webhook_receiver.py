"""A receiver of webhooks on loopback that checks each signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Receiver:
    """What came, by the id of the message, and what is answered next; 0 hangs up."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # id, type
    messages: dict[str, dict[str, str]] = field(default_factory=dict)  # by id: subject, text

    plain: list[tuple[str, str]] = field(default_factory=list)  # subject, text; not signed

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Verify one request by the lines of the specification, and by its own library."""
        answer = self.answers.pop(0) if self.answers else 204
        if "webhook-id" not in headers:  # not ours
            content = json.loads(body)
            self.plain.append((content["title"], content["message"]))
            return answer
        name, moment = headers["webhook-id"], headers["webhook-timestamp"]
        signed = f"{name}.{moment}.".encode() + body
        proof = hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(proof).decode()}"
        content = Webhook(SECRET).verify(body, headers)
        self.requests.append((name, content["type"]))
        if answer != 500:
            self.messages.setdefault(name, content["data"])
        return answer

    def types(self) -> list[str]:
        return [kind for _, kind in self.requests]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on loopback."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = received.take({k.lower(): v for k, v in self.headers.items()}, body)
            if answer:
                self.send_response(answer)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.url = f"http://127.0.0.1:{server.server_port}/hook?token=secret-token"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield received
        server.shutdown()
