"""Ports for services that must come back where they were."""

import socket
from random import SystemRandom

#: Below the range from which Linux takes the ports of outgoing connections (32768 and up). A port from that
#: range may be taken while its service is down, and a client that keeps trying it can even meet itself there.
CANDIDATES = range(20_000, 32_000)

#: One for each port that this process has given out, held until it ends.
_claims: list[socket.socket] = []


def free_port() -> int:
    """A loopback TCP port that nobody listens on now, and that no other test process gets while this one lives."""
    while not (_is_free(port := SystemRandom().choice(CANDIDATES)) and _claim(port)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Whether the port is ours: of an abstract name there is one, and the kernel frees it with its process."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0muleteer-tests/port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True
