"""Receives webhooks of Likewise and verifies their signatures. It needs only the standard library.

    WEBHOOK_SECRET=whsec_... PORT=9000 python webhook.py
"""

import base64
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
TOLERANCE_SECONDS = 300

# As in stream.py: keep it with your data.
newest: dict[tuple, int] = {}


def is_signed(headers, body: bytes) -> bool:
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if not message_id or not timestamp or not timestamp.isdigit():
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    content = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest())
    expected = b"v1," + signature
    # During a rotation there are two signatures.
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, one) for one in signatures)


def handle(fact: dict) -> None:
    pair = (fact["user_id"], fact["resource_type"], fact["resource_id"])
    if fact["version"] <= newest.get(pair, 0):
        return
    newest[pair] = fact["version"]
    print(fact["fact"], *pair, fact["like_count"], flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if is_signed(self.headers, body):
            for fact in json.loads(body)["data"]:
                handle(fact)
            self.send_response(204)
        else:
            self.send_response(401)
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
print("listening on", server.server_port, flush=True)
server.serve_forever()
