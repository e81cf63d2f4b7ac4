"""Fetching an offer: from public addresses only, by a socket to the very address that was checked, within limits."""

from __future__ import annotations

import gzip
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Self

import pytest

from annul.errors import JobError
from annul.jobs.generate_cv import fetch as fetching
from annul.jobs.generate_cv.addresses import is_public
from annul.jobs.generate_cv.fetch import ALLOW, Fetched, Limits, check, fetch

REFUSED = """
    127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254
    169.254.0.1 100.64.0.1 100.127.255.255 192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255 192.88.99.1 100.100.100.200 :: ::1 ::7f00:1 ::ffff:127.0.0.1
    ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd00:ec2::254 ff02::1
    2001:db8::1 2002:7f00:1:: 2002:a00:1:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1
    2001:0:7f00:1:: 2001:10::1 5f00::1 localhost 1.2.3 example.org 0x7f.1 2130706433 127.1 127.0.0.1:80
""".split()
FINE = """
    1.1.1.1 8.8.8.8 93.184.215.14 2606:4700:4700::1111 2a00:1450:4007:80e::2004 ::ffff:8.8.8.8 64:ff9b::808:808
""".split()


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public(address: str) -> None:
    """Private, loopback, link-local, metadata, shared, multicast, reserved; also by IPv6 that stands for IPv4."""
    assert not is_public(address)


@pytest.mark.parametrize("address", FINE)
def test_addresses_that_are(address: str) -> None:
    """Those of the open Internet, also by IPv6 that stands for IPv4."""
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org/", "file:///etc/passwd", "javascript:alert(1)", "http://", "http:///x",
     "http://u:p@example.org/", "http://u@example.org/", "https://@example.org/", "http://a:99999/", "http://a:x/",
     "http://exa mple.org/", "http://example.org/\r\nX: y", "http://[::1/", "gopher://example.org", "//example.org/"],
)  # fmt: skip
def test_addresses_that_are_no_url(url: str) -> None:
    """Other schemes, credentials, controls, broken ones: refused before anything is asked; no secret in the message."""
    with pytest.raises(JobError) as caught:
        check(url)
    assert caught.value.code == "bad_url"
    assert "u:p" not in caught.value.message


# --- a server on loopback ---

Handler = Callable[[socket.socket, str], None]


class Server:
    """A server that answers each request by `handler(connection, path)`, and remembers what it saw."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[str] = []
        self.closed: list[float] = []  # monotonic, when a client's close was seen
        self.changed = threading.Condition()
        self.threads: list[threading.Thread] = []
        self.stop = threading.Event()

    def __enter__(self) -> Self:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start(self.accept)
        return self

    def start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self.threads.append(thread)
        thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()

    def accept(self) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.start(self.serve, connection)

    def serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(20)
            try:
                data = b""
                while b"\r\n\r\n" not in data:
                    if not (more := connection.recv(65536)) or more.startswith(b"\x16"):  # a TLS hello
                        return
                    data += more
                with self.changed:
                    self.requests.append(data.decode())
                    self.changed.notify_all()
                self.handler(connection, data.split(b" ")[1].decode())
            except OSError:
                pass
            finally:
                with self.changed:
                    self.closed.append(time.monotonic())
                    self.changed.notify_all()

    def hold(self, connection: socket.socket) -> None:
        """Until the client closes, or the test ends."""
        poll = select.poll()
        poll.register(connection, select.POLLIN | select.POLLRDHUP)
        while not self.stop.is_set() and not poll.poll(20):
            pass

    def wait(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 20)


def answer(
    connection: socket.socket, body: bytes, kind: str = "text/html; charset=utf-8", *more: str, status: int = 200
) -> None:
    lines = [f"HTTP/1.1 {status} OK", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *more]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets itself: no proxy of the machine's."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == ALLOW:
            monkeypatch.delenv(name)


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, "1")


def get(url: str, **limits: float) -> Fetched:
    return fetch(url, progress=lambda fraction, stage: None, limits=Limits(**limits))  # type: ignore[arg-type]


def failure(url: str, **limits: float) -> JobError:
    with pytest.raises(JobError) as caught:
        get(url, **limits)
    return caught.value


def test_a_page(allowed: None) -> None:
    """What came, its type and charset; asked once, with the right host, without credentials or cookies."""
    with Server(lambda c, path: answer(c, f"<p>{path}</p>".encode())) as server:
        got = get(f"{server.url}jobs/é?a=ü#part")
    assert (got.kind, got.charset) == ("text/html", "utf-8")
    assert got.data == b"<p>/jobs/%C3%A9?a=%C3%BC</p>"
    (request,) = server.requests
    assert f"Host: 127.0.0.1:{server.port}" in request
    assert "Cookie" not in request
    assert "Authorization" not in request


@pytest.mark.parametrize("value", [None, "", "0", "true", "yes"])
def test_loopback_is_refused(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Unless who runs the daemon says 1; nothing is connected to."""
    if value is not None:
        monkeypatch.setenv(ALLOW, value)
    with Server(lambda c, path: answer(c, b"secret")) as server:
        for url in (server.url, f"http://localhost:{server.port}/", f"http://127.1:{server.port}/",
                    f"http://2130706433:{server.port}/", f"http://0x7f.1:{server.port}/", f"http://0:{server.port}/",
                    f"http://[::ffff:127.0.0.1]:{server.port}/"):  # fmt: skip
            error = failure(url)
            assert error.code == "address_refused", url
            assert ALLOW in error.message
    assert server.closed == []


def test_a_redirect_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public page that leads to a private address leads nowhere."""
    real = fetching.is_public
    first = ["127.0.0.1"]
    monkeypatch.setattr(fetching, "is_public", lambda address: address in first or real(address))

    def handler(connection: socket.socket, path: str) -> None:
        answer(connection, b"", "text/html", "Location: http://127.0.0.2:9/secret", status=302)

    with Server(handler) as server:
        error = failure(server.url)
    assert error.code == "address_refused"
    assert "127.0.0.2" in error.message


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch, allowed: None) -> None:
    """A name that resolves to another address the second time (DNS rebinding) is never asked a second time."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: object, **options: object) -> object:
        if host != "offers.example":
            return real(host, *args, **options)  # type: ignore[arg-type]
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.9", *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with Server(lambda c, path: answer(c, b"<p>offer</p>")) as server:
        assert get(f"http://offers.example:{server.port}/").data == b"<p>offer</p>"
    assert asked == ["offers.example"]
    assert f"Host: offers.example:{server.port}" in server.requests[0]


def test_all_addresses_of_a_name_must_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """One private address among public ones is enough to refuse the name."""
    real = socket.getaddrinfo

    def mixed(host: str, *args: object, **options: object) -> list[object]:
        return [*real("1.1.1.1", *args, **options), *real("10.0.0.1", *args, **options)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", mixed)
    assert failure("http://offers.example/").code == "address_refused"


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would resolve names itself, and reach what is refused."""
    with Server(lambda c, path: answer(c, b"by proxy")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert failure("http://10.0.0.1/").code == "address_refused"
        monkeypatch.setenv(ALLOW, "1")
        with Server(lambda c, path: answer(c, b"<p>itself</p>")) as server:
            assert get(server.url).data == b"<p>itself</p>"
    assert proxy.requests == []


def test_redirects(allowed: None) -> None:
    """A few are followed, relative ones too; a circle is given up, and so is one to another scheme."""

    def handler(connection: socket.socket, path: str) -> None:
        if path == "/end":
            answer(connection, b"<p>there</p>")
        else:
            where = {"/": "/a", "/a": "end", "/file": "file:///etc/passwd", "/user": "http://u:p@127.0.0.1/"}.get(
                path, "/loop"
            )
            answer(connection, b"", "text/html", f"Location: {where}", status=301)

    with Server(handler) as server:
        got = get(server.url)
        assert (got.data, got.url) == (b"<p>there</p>", f"{server.url}end")
        assert failure(f"{server.url}loop").code == "too_many_redirects"
        assert failure(f"{server.url}file").code == "bad_url"
        assert failure(f"{server.url}user").code == "bad_url"


BOMB = gzip.compress(b"\0" * 5_000_000)


@pytest.mark.parametrize(
    ("body", "kind", "more", "code"),
    [
        (b"x" * 2000, "text/html", (), "offer_too_large"),
        (BOMB, "text/html", ("Content-Encoding: gzip",), "offer_too_large"),
        (b"not gzip", "text/html", ("Content-Encoding: gzip",), "offer_unreachable"),
        (b"x", "text/html", ("Content-Encoding: br",), "wrong_content_type"),
        (b"x", "image/png", (), "wrong_content_type"),
        (b"x", "application/json", (), "wrong_content_type"),
        (b"x", "", (), "wrong_content_type"),
    ],
)
def test_bodies_that_are_not_taken(allowed: None, body: bytes, kind: str, more: tuple[str, ...], code: str) -> None:
    """Too large, as sent or when unpacked; packed in a way that is not asked for; of another type."""
    with Server(lambda c, path: answer(c, body, kind, *more)) as server:
        assert failure(server.url, bytes=1000 if body is not BOMB else 1_000_000).code == code


def test_a_body_without_an_end_is_cut_off(allowed: None) -> None:
    """A server that never stops sending is left once the limit is reached."""

    def handler(connection: socket.socket, path: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            connection.sendall(b"word " * 1000)

    with Server(handler) as server:
        assert failure(server.url, bytes=50_000).code == "offer_too_large"
        server.wait(lambda: server.closed)


def test_packed_pages_are_unpacked(allowed: None) -> None:
    """gzip is what is asked for."""
    page = b"<p>offer</p>" * 100
    with Server(lambda c, path: answer(c, gzip.compress(page), "text/html", "Content-Encoding: gzip")) as server:
        assert get(server.url).data == page


@pytest.mark.parametrize("slow", ["head", "body", "nothing"])
def test_the_time_is_for_all_of_it(allowed: None, slow: str) -> None:
    """A byte now and then does not keep it waiting: the deadline is for the whole, and the socket is closed."""

    def handler(connection: socket.socket, path: str) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\nX-Long: "
        if slow == "body":
            connection.sendall(head + b"y\r\n\r\n")
        elif slow == "head":
            connection.sendall(head)
        else:
            server.hold(connection)
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b"x")

    with Server(handler) as server:
        began = time.monotonic()
        error = failure(server.url, seconds=0.3)
        assert error.code == "offer_timeout"
        assert 0.25 < time.monotonic() - began < 5
        server.wait(lambda: server.closed)


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (403, False), (500, True), (429, True), (204, False)])
def test_statuses(allowed: None, status: int, retryable: bool) -> None:
    """Anything but 200 is said with its number."""
    with Server(lambda c, path: answer(c, b"", status=status)) as server:
        error = failure(server.url)
    assert (error.code, error.retryable) == ("offer_http_error", retryable)
    assert str(status) in error.message


def test_nobody_there(allowed: None) -> None:
    """No server, no such name, no HTTP: each is said, naming the host."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(f"http://127.0.0.1:{port}/")
    assert (error.code, "127.0.0.1" in error.message) == ("offer_unreachable", True)
    assert failure("http://no-such-name.invalid/").code == "offer_unreachable"
    with Server(lambda c, path: c.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")) as server:
        assert failure(server.url).code == "offer_unreachable"
    with Server(lambda c, path: answer(c, b"x")) as server:
        assert failure(server.url.replace("http:", "https:")).code == "offer_unreachable"


CHILD = """
import os, signal, sys
from annul.errors import Cancelled
from annul.jobs.generate_cv.fetch import fetch

def on_term(number, frame):
    raise Cancelled

signal.signal(signal.SIGTERM, on_term)
try:
    fetch(sys.argv[1], progress=lambda fraction, stage: None)
except Cancelled:
    os.write(1, b"cancelled\\n")
sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["before the answer", "in the body"])
def test_a_cancel_closes_the_socket(when: str) -> None:
    """At once, by the fetch itself: its process lives on until the close was seen."""

    def handler(connection: socket.socket, path: str) -> None:
        if when == "in the body":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nhalf")
        server.hold(connection)

    with Server(handler) as server:
        env = {**os.environ, ALLOW: "1"}
        command = [sys.executable, "-c", CHILD, server.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                server.wait(lambda: server.requests)
                sent = time.monotonic()
                child.send_signal(signal.SIGTERM)
                assert child.stdout.readline() == "cancelled\n"
                server.wait(lambda: server.closed)
                assert child.poll() is None
                child.stdin.close()
                assert child.wait() == 0
            finally:
                child.kill()
    print(f"cancelled {when}: the server saw the close after {(server.closed[0] - sent) * 1e3:.2f} ms")


STUCK = """
import os, signal, socket, sys, threading
from annul.errors import Cancelled
from annul.jobs.generate_cv.fetch import fetch

def on_term(number, frame):
    raise Cancelled

def never(*args, **options):
    os.write(1, b"asked\\n")
    threading.Event().wait()

socket.getaddrinfo = never
signal.signal(signal.SIGTERM, on_term)
try:
    fetch("http://offers.example/", progress=lambda fraction, stage: None)
except Cancelled:
    os.write(1, b"cancelled\\n")
"""


def test_a_cancel_does_not_wait_for_a_name() -> None:
    """A resolver that does not answer is left behind, and keeps no process alive."""
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "asked\n"
            child.send_signal(signal.SIGTERM)
            assert child.stdout.readline() == "cancelled\n"
            assert child.wait(20) == 0
        finally:
            child.kill()


def test_a_name_has_its_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is also for a resolver that does not answer."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: release.wait(20) and [])
    try:
        assert failure("http://offers.example/", seconds=0.1).code == "offer_timeout"
    finally:
        release.set()
