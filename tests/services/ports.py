"""Ports for services that must come back where they were."""

import socket
from random import SystemRandom

#: Below the range from which Linux takes the ports of outgoing connections (32768 and up). A port from that
#: range may be taken while its service is down, and a client that keeps trying it can even meet itself there.
CANDIDATES = range(20_000, 32_000)


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    while not _is_free(port := SystemRandom().choice(CANDIDATES)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
