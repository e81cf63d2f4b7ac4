"""Fetching an offer from a URL, from public addresses only.

A name is resolved once; every address it has must be public; the connection goes to one of those that were checked,
never by the name again, so a name that changes meanwhile (DNS rebinding) leads nowhere else. Each redirect is checked
in the same way. No proxy of the environment is used: it would resolve names itself. No cookies, no credentials.

Who runs the daemon may allow private addresses, by the environment variable `ALLOW` with the value 1; a caller
cannot, since whoever may submit jobs would then reach all that the daemon's machine can.

Runs in the job's main thread. A cancel closes the socket at once: `Cancelled` comes out of whatever blocks here.
"""

from __future__ import annotations

import _thread
import os
import queue
import socket
import time
import zlib
from collections.abc import Callable, Iterable
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import httpcore2
import msgspec

from annul.errors import JobError
from annul.jobs.generate_cv.addresses import is_public

ALLOW = "ANNUL_ALLOW_PRIVATE_ADDRESSES"
_KINDS = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown", "text/x-markdown", "application/pdf")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECT_S = 10.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a page is waited for."""

    seconds: float = 30.0  # for all of it: names, connections, redirects, body
    bytes: int = 10_000_000  # of the body, as sent and when unpacked
    redirects: int = 5


class Fetched(msgspec.Struct, frozen=True):
    """What came."""

    data: bytes
    kind: str  # its content type, without parameters; lower case
    charset: str  # "" where it does not say
    url: str  # where it came from in the end


def fetch(url: str, *, progress: Callable[[float, str], None], limits: Limits | None = None) -> Fetched:
    """The page at `url`. Blocks.

    Raises JobError ``bad_url``, ``address_refused``, ``offer_unreachable``, ``offer_timeout``, ``offer_http_error``,
    ``too_many_redirects``, ``wrong_content_type``, ``offer_too_large``.
    """
    limits = limits or Limits()
    deadline = time.monotonic() + limits.seconds
    backend = _Checked(deadline, allow_private=os.environ.get(ALLOW) == "1")
    for _ in range(limits.redirects + 1):
        parts = check(url)
        host = parts.hostname or ""
        progress(0.0, f"fetching the offer from {host}")
        try:
            # A new pool each time: a connection that was kept open is one that was not checked for this name.
            with httpcore2.ConnectionPool(network_backend=backend, max_connections=1) as pool:
                answer = _get(pool, parts, deadline, limits, progress)
        except httpcore2.TimeoutException:
            raise _too_slow(host, limits) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            if time.monotonic() >= deadline:
                raise _too_slow(host, limits) from None
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise JobError("offer_unreachable", f"fetching the offer from {host}: {said}", retryable=True) from None
        if isinstance(answer, Fetched):
            return answer
        url = urljoin(url, answer)
    raise JobError(
        "too_many_redirects",
        f"fetching the offer: more than {limits.redirects} redirects, the last to {check(url).hostname}. Give the "
        "address of the page itself.",
    )


def check(url: str) -> SplitResult:
    """The parts of a URL that may be asked. Raises JobError ``bad_url``."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, SplitResult("", "", "", "", "")
    if any(c.isspace() or not c.isprintable() for c in url) or parts.scheme not in ("http", "https") or not host:
        raise JobError("bad_url", "the address of the offer (offer_url) is no http or https address. Give one.")
    if parts.username is not None or parts.password is not None:
        raise JobError(
            "bad_url", "the address of the offer holds a user name or password. Give it without, or the text."
        )
    return parts


def _get(
    pool: httpcore2.ConnectionPool,
    parts: SplitResult,
    deadline: float,
    limits: Limits,
    progress: Callable[[float, str], None],
) -> Fetched | str:
    """The page, or the address that it redirects to."""
    host = parts.hostname or ""
    try:
        ascii_host = host if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        raise JobError("bad_url", f"the address of the offer has no valid host name: {host[:80]!r}") from None
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    target = "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in target)
    named = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    default = 443 if parts.scheme == "https" else 80
    port = parts.port or default
    url = httpcore2.URL(scheme=parts.scheme.encode(), host=ascii_host.encode(), port=port, target=target.encode())
    headers: dict[bytes | str, bytes | str] = {
        "Host": named if port == default else f"{named}:{port}",
        "User-Agent": "annul (fetches one page that its user named)",
        "Accept": ", ".join((*_KINDS[:3], _KINDS[-1])),
        "Accept-Encoding": "gzip, identity",
        "Connection": "close",
    }
    with pool.stream("GET", url, headers=headers, extensions={"timeout": {"pool": 1.0}}) as response:
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and fields.get("location"):
            return fields["location"]
        if response.status != 200:
            raise JobError(
                "offer_http_error",
                f"fetching the offer: {host} answered HTTP {response.status}. Open the page and give its text instead.",
                retryable=response.status in (408, 429) or response.status >= 500,
            )
        kind, charset = _content_type(fields.get("content-type", ""))
        if kind not in _KINDS:
            raise JobError(
                "wrong_content_type",
                f"fetching the offer: {host} sent {kind[:60] or 'no content type'}; a page, a text or a PDF is needed.",
            )
        data = _body(response.iter_stream(), fields, host, deadline, limits, progress)
    return Fetched(data, kind, charset, urlunsplit(parts))


def _body(
    chunks: Iterable[bytes],
    fields: dict[str, str],
    host: str,
    deadline: float,
    limits: Limits,
    progress: Callable[[float, str], None],
) -> bytes:
    coding = fields.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise JobError("wrong_content_type", f"fetching the offer: {host} sent it packed as {coding[:40]}")
    told = fields.get("content-length", "")
    expected = int(told) if told.isascii() and told.isdigit() and len(told) < 16 else 0
    too_large = JobError(
        "offer_too_large",
        f"fetching the offer: {host} sends more than {limits.bytes:,} bytes, the limit. Give its text instead.",
    )
    if expected > limits.bytes:
        raise too_large
    unpack = zlib.decompressobj(47) if coding in ("gzip", "x-gzip", "deflate") else None
    data, received = bytearray(), 0
    for chunk in chunks:
        received += len(chunk)
        try:
            data += chunk if unpack is None else unpack.decompress(chunk, limits.bytes + 1 - len(data))
        except zlib.error:
            raise JobError("offer_unreachable", f"fetching the offer: what {host} sent cannot be unpacked") from None
        if max(received, len(data)) > limits.bytes:
            raise too_large
        if time.monotonic() >= deadline:
            raise _too_slow(host, limits)
        share = received / expected if expected else 1 - 1 / (1 + received / 100_000)
        progress(min(1.0, share), f"fetching the offer: {received:,} bytes")
    return bytes(data)


def _content_type(value: str) -> tuple[str, str]:
    kind, *rest = (part.strip() for part in value.split(";"))
    charset = next((part.partition("=")[2].strip("\"' ") for part in rest if part.lower().startswith("charset")), "")
    return kind.lower(), charset


def _too_slow(host: str, limits: Limits) -> JobError:
    return JobError(
        "offer_timeout",
        f"fetching the offer: {host} took longer than {limits.seconds:g} s, the limit. Give its text instead.",
        retryable=True,
    )


class _Checked(httpcore2.NetworkBackend):
    """Connects to addresses that were checked, and lets no operation outlast the deadline."""

    def __init__(self, deadline: float, *, allow_private: bool) -> None:
        self._deadline = deadline
        self._allow_private = allow_private
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 (the deadline is for all of it)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = resolve(host, port, self._left())
        if not self._allow_private and (refused := [one for one in addresses if not is_public(one)]):
            raise JobError(
                "address_refused",
                f"fetching the offer: {host} is at {refused[0]}, an address that is not public, and these are refused. "
                f"Give the offer's text, or have who runs the daemon set {ALLOW}=1.",
            )
        failed: Exception = OSError(f"no address of {host}")
        for address in addresses[:4]:
            try:
                # An address, and no name: nothing is resolved again.
                stream = self._inner.connect_tcp(
                    address, port, min(_CONNECT_S, self._left()), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
            else:
                return _Timed(stream, self._deadline)
        raise failed

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ConnectTimeout
        return left


class _Timed(httpcore2.NetworkStream):
    """A connection whose every operation ends at the deadline: one byte a second is no way around it."""

    def __init__(self, inner: httpcore2.NetworkStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def _left(self, late: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise late
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._inner.read(max_bytes, self._left(httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, self._left(httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: object,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        left = self._left(httpcore2.ConnectTimeout)
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)  # type: ignore[arg-type]

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


def resolve(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a name, each once, in the resolver's order.

    Asked in a thread, since the resolver hears neither signals nor deadlines: a cancel leaves it behind, and it ends
    with the job's process. Raises httpcore2.ConnectError, ConnectTimeout.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(one[4][0]) for one in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(f"no valid name: {host}"))

    # Race: threading's own start waits for the thread under a lock, of which a cancel raised in there makes an error.
    _thread.start_new_thread(ask, ())
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise httpcore2.ConnectTimeout from None
    if isinstance(answer, OSError):
        raise httpcore2.ConnectError(f"its name is not known: {answer.strerror or answer}")
    return answer
