"""The server of the page and clients that are slow, many, rude or gone."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from chainrule.explain.report import server as module
from chainrule.explain.report.server import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose page asks for nothing else."""
    server = Server(lambda after: None, lambda *given: {"asked": list(given)}, lambda *given: {})
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server
    server.close()
    thread.join()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def honest(server: Server) -> tuple[int, float]:
    """The status of an ordinary request, and how long it took."""
    began = time.monotonic()
    with urllib.request.urlopen(f"{server.url}explain?parameter=w&index=1&step=2", timeout=20) as response:
        return response.status, time.monotonic() - began


def raw(server: Server, request: bytes) -> bytes:
    """The answer to these bytes."""
    with connected(server) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


LONG = b"x" * 70_000
MALFORMED = [
    (b"GET http://[/ HTTP/1.1\r\nHost: {host}\r\n\r\n", b"400"),
    (b"GET ?//[/ HTTP/1.1\r\nHost: {host}\r\n\r\n", b"404"),
    (b"GET http://[::1 HTTP/1.1\r\nHost: {host}\r\n\r\n", b"400"),
    (b"GET //\xe2\x84\x80/ HTTP/1.1\r\nHost: {host}\r\n\r\n", b"40"),
    (b"GET /{token}/explain?parameter=w&index=1&step=" + b"9" * 5000 + b" HTTP/1.1\r\nHost: {host}\r\n\r\n", b"400"),
    (b"GET /{token}/explain?parameter=w&index=1,,x&step=2 HTTP/1.1\r\nHost: {host}\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\n\r\n", b"403"),
    (b"GET /{token}/ HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n", b"403"),
    (b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: {host}\r\n\r\n", b"404"),
    (b"GET / HTTP/9\r\n\r\n", b"400"),
    (b"GET\r\n\r\n", b"400"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    (b"POST /{token}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n", b"501"),
    (b"GET /" + LONG + b" HTTP/1.1\r\n\r\n", b"414"),
    (b"GET / HTTP/1.1\r\nA: " + LONG + b"\r\n\r\n", b"431"),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
]


@pytest.mark.parametrize(("request_", "status"), MALFORMED)
def test_malformed_requests_are_refused_without_a_traceback(
    server: Server, capfd: pytest.CaptureFixture[str], request_: bytes, status: bytes
) -> None:
    host, token = f"127.0.0.1:{server.port}".encode(), server.token.encode()
    answer = raw(server, request_.replace(b"{host}", host).replace(b"{token}", token))
    assert b" " + status in answer[:400]
    assert honest(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_a_client_that_goes_away_leaves_no_traceback(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    for sent in (b"", b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        client = connected(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # closing resets it
        client.sendall(sent)
        client.close()
    assert honest(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_slow_clients_do_not_hold_it(server: Server) -> None:
    before = threading.active_count()
    slow = [connected(server) for _ in range(80)]
    try:
        for number, client in enumerate(slow):
            client.sendall([b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"][number % 4])
        for _ in range(5):
            status, seconds = honest(server)
            assert (status, seconds < 2) == (200, True)
        assert threading.active_count() - before <= module.MOST + 4  # those just dropped are on their way out
    finally:
        for client in slow:
            client.close()


def test_who_sends_a_byte_now_and_then_is_dropped_all_the_same(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.6)
    with connected(server) as client:
        began = time.monotonic()
        with pytest.raises((ConnectionError, BrokenPipeError)):
            dribble(client)
        assert 0.5 < time.monotonic() - began < 5


def dribble(client: socket.socket) -> None:
    """Ten seconds of one byte after the other."""
    for _ in range(200):
        client.sendall(b"G")
        time.sleep(0.05)


def test_who_is_being_answered_is_not_dropped_for_others(server: Server) -> None:
    """With the server busy answering, more connections are turned away and those that wait get their answer."""
    found: list[int] = []
    with server.lock:  # every answer waits here
        askers = [threading.Thread(target=lambda: found.append(honest(server)[0])) for _ in range(module.MOST)]
        for asker in askers:
            asker.start()
        until = time.monotonic() + 10
        while (len(server._http._open), len(server._http._asking)) != (module.MOST, 0) and time.monotonic() < until:
            time.sleep(0.01)
        with connected(server) as turned_away:
            assert turned_away.recv(1) == b""
    for asker in askers:
        asker.join()
    assert found == [200] * module.MOST
