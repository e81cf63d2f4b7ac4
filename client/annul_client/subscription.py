"""A SUB socket, and a watch on whether it is connected."""

from __future__ import annotations

import zmq

from .channel import Watch, connecting
from .core import topic
from .following import Heard
from .keys import KeyFile

UNREAD = 10_000
"""Publications kept by the socket while its reader does something else; the log has what comes after them."""

BURST = 256
"""Publications read in one go, so that closing the client is noticed under any load."""


class Subscription:
    """To the events of one job, or of all. Owned by the thread that reads it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        job_id: str | None,
        key: KeyFile | None = None,
    ) -> None:
        """Begin to connect."""
        self._socket = connecting(context, zmq.SUB, key)
        self._socket.rcvhwm = UNREAD
        self._watch = Watch(self._socket)
        self._socket.subscribe(topic(job_id))
        self._socket.connect(endpoint)

    @property
    def sockets(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """There is something to `take` when one of them can be read."""
        return self._socket, self._watch.socket

    def take(self) -> Heard:
        """What has come, without waiting; where that is a lot, more may be there."""
        connected = self._watch.read()
        publications: list[list[bytes]] = []
        try:
            while len(publications) < BURST:
                publications.append(self._socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            pass
        return Heard(connected, publications)

    def close(self) -> None:
        """Close at once; nothing lingers."""
        self._watch.close()
        self._socket.close(linger=0)
