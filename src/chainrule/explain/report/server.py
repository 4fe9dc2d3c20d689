"""The page served to this computer's own browser: any weight at any step can be asked for, and a run followed live.

Only the loopback address is bound; every path begins with a random token that no other page can know; a request
whose Host is not this server's own address (a name rebound to 127.0.0.1) is refused; nothing is written. So many
connections are open at most, none of them for long before it has asked.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chainrule.errors import ChainruleError
from chainrule.explain.report.page import plain, write
from chainrule.explain.report.tensors import packed

MOST = 24  # connections, and so threads: a browser opens 6 to one server
PATIENCE = 5.0  # seconds for a request to be complete
SENDING = 60.0  # seconds for an answer to be taken
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
        self._http = _Connections(("127.0.0.1", port), _handler(self))
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
        try:
            parts = urlsplit(target)
        except ValueError:  # brackets that hold no address
            return 400, "text/plain", b"This is no address."
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


class _Connections(ThreadingHTTPServer):
    """A thread a connection, `MOST` at once: where more come, the one that has waited longest for its request goes."""

    daemon_threads = True
    request_queue_size = 128  # that the system holds for us until they are taken

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._asking: dict[socket.socket, float] = {}  # whose request is not complete, and since when; oldest first
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, or turn it away where all the others are being answered."""
        with self._guard:
            if len(self._open) >= MOST and not self._drop_oldest():
                full = True
            else:
                full = False
                self._open.add(request)
                self._asking[request] = time.monotonic()
        if full:
            super().shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def asked(self, request: socket.socket) -> None:
        """Its request is complete."""
        with self._guard:
            self._asking.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        """Let go of a connection."""
        with self._guard:
            self._open.discard(request)
            self._asking.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Several times a second: whoever takes too long with a request goes."""
        with self._guard:
            while self._asking and time.monotonic() - next(iter(self._asking.values())) > PATIENCE:
                self._drop_oldest()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours, and needs no traceback."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def _drop_oldest(self) -> bool:
        """End the connection that has asked longest; its thread sees the end and lets go."""
        if not self._asking:
            return False
        oldest = next(iter(self._asking))
        del self._asking[oldest]
        self._open.discard(oldest)
        with suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)
        return True


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "chainrule", ""
        timeout = PATIENCE

        def do_GET(self) -> None:
            server._http.asked(self.connection)
            self.connection.settimeout(SENDING)  # of all that is sent together
            hosts = self.headers.get_all("Host", [])
            status, kind, body = server.answer(hosts[0] if len(hosts) == 1 else "", self.path)
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
