"""A wire to a broker: one TCP or TLS connection, read by one thread and written by any.

stomp.py's own transport is not used for this. In version 9.0 it does not notice that the other side closed a TLS
connection (it spins instead, until a heart-beat is missed), it has no time limit for a write or for a login that is
not answered, and it logs why an address failed instead of telling its caller.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress


def open_wire(address: tuple[str, int], tls: ssl.SSLContext | None, patience: float) -> Wire:
    """Connect. Each step (every IP address of the host, the TLS handshake) may take `patience` seconds.

    Raises:
        ssl.SSLCertVerificationError: the certificate is not one that `tls` trusts for this host.
        OSError: anything else that went wrong.
    """
    connection = socket.create_connection(address, timeout=patience)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is not None:
            connection = tls.wrap_socket(connection, server_hostname=address[0])
    except BaseException:
        connection.close()
        raise
    return Wire(connection, patience)


class Wire:
    """Bytes in and bytes out. `hang_up` may come from any thread; `close` comes last, from the reader."""

    def __init__(self, connection: socket.socket, patience: float) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._patience = patience
        self._hung_up = False
        # OpenSSL allows one call at a time on a connection. Nobody waits for the network while holding this one.
        self._turn = threading.Lock()
        # Frames must not mix, so a writer keeps this one until its last byte is out.
        self._writing = threading.Lock()

    def read(self, most: int) -> bytes:
        """Wait for bytes and return up to `most` of them; none once either side has hung up.

        Raises:
            OSError: the connection broke.
        """
        while not self._hung_up:
            try:
                with self._turn:
                    return self._connection.recv(most)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
        return b""

    def write(self, data: bytes) -> None:
        """Write everything.

        Raises:
            TimeoutError: the other side took nothing for `patience` seconds. Hang up: half a frame may be out.
            OSError: the connection broke.
        """
        rest = memoryview(data)
        with self._writing:
            while rest:
                try:
                    with self._turn:
                        rest = rest[self._connection.send(rest) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    self._wait_briefly(select.POLLOUT)
                except ssl.SSLWantReadError:
                    self._wait_briefly(select.POLLIN)

    def hang_up(self) -> None:
        """End it: whoever reads or writes comes back at once."""
        self._hung_up = True
        with suppress(OSError):
            # Not SSLSocket.shutdown: that one forgets the encryption while others may still be at it.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self.hang_up()
        with self._writing, self._turn:
            self._connection.close()

    def _wait_briefly(self, event: int) -> None:
        if not self._wait(event, self._patience):
            raise TimeoutError(f"took nothing for {self._patience:g} s")

    def _wait(self, event: int, patience: float | None = None) -> bool:
        poll = select.poll()
        poll.register(self._connection, event)
        return bool(poll.poll(None if patience is None else patience * 1000))
