"""The page served to this computer's own browser: any weight at any step can be asked for, and a run followed live.

Only the loopback address is bound; every path begins with a random token that no other page can know; a request
whose Host is not this server's own address (a name rebound to 127.0.0.1) is refused; nothing is written.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chainrule.errors import ChainruleError
from chainrule.explain.report.page import plain, write
from chainrule.explain.report.tensors import packed

Made = tuple[dict[str, Any], bytes]  # a document and its arrays
_HEADERS = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip


class Server:
    """Serves one report on 127.0.0.1 until it is closed.

    Args:
        make: the document now, or None where nothing has changed since the version it is given.
        ask: the derivation of a weight, ``(parameter, index, step) -> dict``.
        imagine: what follows from a change, ``(step, change) -> dict``.
        port: 0 takes any free one.
    """

    def __init__(
        self, make: Callable[[int], tuple[int, Made] | None], ask: Callable[[str, list[int], int], dict[str, Any]],
        imagine: Callable[[int, dict[str, str]], dict[str, Any]], port: int = 0,
    ) -> None:  # fmt: skip
        self.make, self.ask, self.imagine = make, ask, imagine
        self.token = secrets.token_urlsafe(24)
        self.lock = threading.Lock()  # a replay lends the trainer to one asker at a time
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self.port = int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """Where the page is; whoever has this address can read it."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer until `close` is called or Ctrl-C comes."""
        self._http.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop answering, and free the port."""
        self._http.shutdown()
        self._http.server_close()

    # ---------------------------------------------------------------- what is answered

    def answer(self, host: str, target: str) -> tuple[int, str, bytes]:
        """Status, media type and body for a request."""
        if host not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return 403, "text/plain", b"This address answers only under its own name."
        parts = urlsplit(target)
        token, _, rest = parts.path.lstrip("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return 404, "text/plain", b"There is nothing here."
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        answers = {"": self._page, "document": self._document, "explain": self._explain, "what_if": self._what_if}
        if rest not in answers:
            return 404, "text/plain", b"There is nothing here."
        try:
            with self.lock:
                return answers[rest](query)
        except (ChainruleError, OSError) as error:
            return 422, "application/json", json.dumps({"error": str(error)}).encode()
        except (KeyError, ValueError) as error:
            return 400, "application/json", json.dumps({"error": f"not a request this page makes: {error!r}"}).encode()

    def _page(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        made = self.make(-1)
        if made is None:
            raise ValueError("there is no document yet")
        document, tensors = made[1]
        return 200, "text/html; charset=utf-8", write(document, tensors, connect="'self'").encode()

    def _document(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        made = self.make(int(query["after"]))
        if made is None:
            return 204, "application/json", b""
        _, (document, tensors) = made
        text = json.dumps(plain(document), allow_nan=False)
        return (
            200,
            "application/json",
            json.dumps({"document": packed(text.encode()), "tensors": packed(tensors)}).encode(),
        )

    def _explain(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        index = [int(part) for part in query["index"].split(",") if part]
        found = self.ask(query["parameter"], index, int(query["step"]))
        return 200, "application/json", json.dumps(plain(found), allow_nan=False).encode()

    def _what_if(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        change = {key: value for key, value in query.items() if key != "step"}
        found = self.imagine(int(query["step"]), change)
        return 200, "application/json", json.dumps(plain(found), allow_nan=False).encode()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "chainrule", ""

        def do_GET(self) -> None:
            status, kind, body = server.answer(self.headers.get("Host", ""), self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the token would stand in the log."""

    return Handler
