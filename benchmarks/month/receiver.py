"""Whoever is told of alarms: a webhook on loopback that takes signed messages."""

from __future__ import annotations

import base64
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from standardwebhooks import Webhook, WebhookVerificationError

#: The block through which the plant tells people.
BLOCK = "signed-webhook/month"

#: Of the messages' signatures.
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Text(NamedTuple):
    """A message as it came."""

    kind: str
    subject: str
    body: str


@dataclass
class Received:
    """What came: each message, how often it did, and how many were signed by somebody else."""

    url: str = ""
    times: Counter[str] = field(default_factory=Counter)
    texts: dict[str, Text] = field(default_factory=dict)
    n_forged: int = 0


def save_block(url: str, environment: Mapping[str, str]) -> None:
    """Save on the Prefect server the block that the plant file names."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    from pipelines.webhook import SignedWebhook

    server = {
        PREFECT_API_URL: environment["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(server):
        SignedWebhook(url=url, secret=SECRET).save(BLOCK.partition("/")[2], overwrite=True)


@contextmanager
def receiving() -> Iterator[Received]:
    """Listen until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {key.lower(): value for key, value in self.headers.items()}
            try:
                content = Webhook(SECRET).verify(body, headers)
                received.times[headers["webhook-id"]] += 1
                said = Text(content["type"], *(content["data"][key] for key in ("subject", "text")))
                received.texts[headers["webhook-id"]] = said
            except WebhookVerificationError:
                received.n_forged += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Received(f"http://127.0.0.1:{server.server_port}/hook")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield received
        server.shutdown()
