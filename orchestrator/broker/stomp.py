"""The door to ActiveMQ, over STOMP 1.1 or 1.2.

Nothing outside this file knows stomp.py. From stomp.py come the frames, their escaping and the heart-beats; the
connection below is a `Wire`, and reconnecting is left to whoever calls `subscribe` again.
"""

from __future__ import annotations

import itertools
import logging
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stomp.protocol import Protocol11, Protocol12
from stomp.transport import BaseTransport

from orchestrator.broker.frames import FrameReader
from orchestrator.broker.handover import HandOver
from orchestrator.broker.port import BrokerError, BrokerLost, BrokerRefused, Frame
from orchestrator.broker.wire import Wire, open_wire

# At DEBUG stomp.py writes every body, and the passcode: its own mask for it looks for "passcode: " with a blank.
logging.getLogger("stomp.py").setLevel(logging.WARNING)

#: Read so much at once. Less: many system calls. More: stomp.py moves the rest of the buffer once for each frame.
CHUNK = 64 * 1024
#: Seconds a thread of ours may take to end once its connection has ended.
FAREWELL = 5.0

PROTOCOLS = {"1.1": Protocol11, "1.2": Protocol12}


@dataclass(frozen=True, slots=True, kw_only=True)
class StompSettings:
    """Where the broker is, who we are there, and what we want from it."""

    #: (host, port) of each broker of a failover pair, tried in turn.
    addresses: tuple[tuple[str, int], ...]
    #: `/queue/events`, `/topic/x`, or `/queue/Consumer.muleteer.VirtualTopic.events`.
    destination: str
    version: Literal["1.1", "1.2"] = "1.2"
    user: str | None = None
    passcode: str | None = field(default=None, repr=False)
    tls: bool = False
    #: PEM file with the authorities to trust; None trusts those of the system.
    ca_file: Path | None = None
    #: PEM files of our own certificate, if the broker wants one.
    cert_file: Path | None = None
    key_file: Path | None = None
    #: Which messages we want, as a JMS selector: `event_type = 'close'`. The others stay in the queue.
    selector: str | None = None
    #: Both together make a subscription to a topic durable: the broker keeps what comes while we are away.
    client_id: str | None = None
    subscription_name: str | None = None
    virtual_host: str | None = None
    #: Milliseconds between heart-beats, both ways; 0 for none.
    heartbeat: int = 10_000
    #: The broker is lost after this many silent intervals. ActiveMQ may leave out every other heart-beat, so
    #: anything below 2.5 gives false alarms.
    heartbeat_scale: float = 3.0
    #: How many frames may be with us without being acknowledged. 1000 is also what ActiveMQ does on its own; with
    #: 500 it waits for us more often (10 to 20 per cent slower, measured).
    prefetch: int = 1000
    #: Get every message, although others are subscribed to the same queue.
    exclusive: bool = False
    #: Bounds of a batch: frames, and bytes of their bodies.
    batch_frames: int = 500
    batch_bytes: int = 8 * 1024 * 1024
    #: So many bytes of bodies may wait for the consumer; then we stop reading, and TCP holds the broker back.
    waiting_bytes: int = 64 * 1024 * 1024
    #: Seconds each answer of a broker may take: to the connection, the login, the subscription, a frame we send.
    connect_timeout: float = 10.0

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("no broker to connect to: give at least one (host, port) in addresses")
        if bool(self.client_id) != bool(self.subscription_name):
            raise ValueError("a durable subscription needs both a client_id and a subscription_name: give both or none")


class StompBroker:
    """Brokers that speak STOMP, with one destination on them. Any thread may use it."""

    def __init__(self, settings: StompSettings) -> None:
        self._settings = settings
        hosts = ",".join(f"{host}:{port}" for host, port in settings.addresses)
        self.address = f"{_scheme(settings)}://{hosts}{settings.destination}"
        #: The address that answered last: the one to begin with.
        self._best = 0
        self._sender: _Session | None = None
        self._sending = threading.Lock()

    def subscribe(self) -> _StompSubscription:
        """See `Broker.subscribe`. ActiveMQ sends frames at once, `prefetch` of them ahead of acknowledgements."""
        session = self._open(self._settings.client_id)
        try:
            return _StompSubscription(session, self._settings)
        except BrokerError:
            session.leave()
            raise

    def check(self) -> None:
        """See `Broker.check`. Without the client-id: a listener that runs meanwhile has it."""
        self._open(client_id=None).leave()

    def send(self, headers: Mapping[str, str], body: bytes) -> None:
        """See `Broker.send`. The connection for it is opened by the first call and kept for the next ones."""
        with self._sending:
            if self._sender is None or self._sender.ended is not None:
                self._drop_sender()
                # Without the client-id: it belongs to the subscription, and the broker knows it only once.
                self._sender = self._open(client_id=None)
            destination = self._settings.destination
            ours = {
                "destination": destination,
                "persistent": "true",
                # Always, for without it a NUL in the body would end the frame.
                "content-length": str(len(body)),
            }
            try:
                self._sender.ask(f"a frame for {destination}", "SEND", {**headers, **ours}, body)
            except BrokerError:
                self._drop_sender()
                raise

    def close(self) -> None:
        """End the connection that `send` keeps. Subscriptions are closed by whoever has them. Never raises."""
        with self._sending:
            self._drop_sender()

    def _drop_sender(self) -> None:
        if self._sender is not None:
            self._sender.leave()
            self._sender = None

    def _open(self, client_id: str | None) -> _Session:
        tls = _tls(self._settings)
        failures: list[str] = []
        trusted = True
        for index in self._turns():
            address = self._settings.addresses[index]
            try:
                wire = open_wire(address, tls, self._settings.connect_timeout)
                session = _Session(wire, address, self._settings)
                session.log_in(client_id)
            except ssl.SSLCertVerificationError as error:
                trusted = False
                failures.append(f"{_name(address)} showed a certificate we do not trust ({error.verify_message})")
            except OSError as error:
                failures.append(f"{_name(address)} cannot be reached ({error})")
            except BrokerLost as error:
                failures.append(str(error))
            else:
                self._best = index
                return session
        said = "; ".join(failures)
        if trusted:
            raise BrokerLost(f"no broker for {self.address}: {said}. Check addresses, and that the broker is up")
        raise BrokerRefused(f"no broker for {self.address}: {said}. Check ca_file, and the host names in addresses")

    def _turns(self) -> Sequence[int]:
        count = len(self._settings.addresses)
        return [(self._best + turn) % count for turn in range(count)]


class _StompSubscription:
    """See `Subscription`. Acknowledgements are cumulative: one for a whole batch and all before it."""

    def __init__(self, session: _Session, settings: StompSettings) -> None:
        headers = {
            "destination": settings.destination,
            "id": "muleteer",
            "ack": "client",
            "activemq.prefetchSize": str(settings.prefetch),
        }
        if settings.selector is not None:
            headers["selector"] = settings.selector
        if settings.subscription_name is not None:
            headers["activemq.subscriptionName"] = settings.subscription_name
        if settings.exclusive:
            headers["activemq.exclusive"] = "true"
        self._session = session
        self._version = settings.version
        self._last: Frame | None = None
        session.ask(f"the subscription to {settings.destination}", "SUBSCRIBE", headers)

    def receive(self, timeout: float) -> Sequence[Frame]:
        batch = self._session.frames.take(timeout)
        if batch:
            self._last = batch[-1]
        return batch

    def acknowledge(self) -> None:
        if self._last is None:
            return
        headers = self._last.headers
        if self._version == "1.2":
            name = {"id": headers["ack"]}
        else:
            name = {"message-id": headers["message-id"], "subscription": headers["subscription"]}
        self._session.tell("ACK", name)
        self._last = None

    def wake(self) -> None:
        self._session.frames.wake()

    def close(self) -> None:
        self._session.leave()


class _Session(BaseTransport):  # type: ignore[misc]  # stomp.py has no type hints
    """One connection. A thread of stomp.py's reads it and calls the methods in the second half; any thread may send."""

    def __init__(self, wire: Wire, address: tuple[str, int], settings: StompSettings) -> None:
        super().__init__(auto_decode=False)
        self.frames = HandOver(
            batch_frames=settings.batch_frames, batch_bytes=settings.batch_bytes, full_bytes=settings.waiting_bytes
        )
        #: Why nothing goes any more, or None.
        self.ended: str | None = None
        # These two are read by stomp.py's protocol, for its `host` header.
        self.current_host_and_port = address
        self.vhost = settings.virtual_host
        self._wire = wire
        self._name = _name(address)
        self._settings = settings
        #: What the broker said in an ERROR frame.
        self._error: str | None = None
        self._answers: set[str] = set()
        self._news = threading.Condition()
        self._receipts = itertools.count(1)
        self._parsed: list[Frame] = []
        self._threads: list[threading.Thread] = []
        self._protocol: Any = PROTOCOLS[settings.version](
            self,
            heartbeats=(settings.heartbeat, settings.heartbeat),
            heart_beat_receive_scale=settings.heartbeat_scale,
        )
        self.override_threading(self._start_reader)
        self.start()

    def log_in(self, client_id: str | None) -> None:
        """Raises BrokerLost or BrokerRefused, and leaves nothing behind then."""
        try:
            headers = {} if client_id is None else {"client-id": client_id}
            self._protocol.connect(self._settings.user, self._settings.passcode, headers=headers)
            self._expect("CONNECTED", f"user {self._settings.user!r}", "Check user and passcode")
        except BrokerError:
            self.leave()
            raise

    def ask(self, what: str, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a frame and wait until the broker has done what it says. Raises BrokerLost or BrokerRefused."""
        receipt = f"{command} {next(self._receipts)}"
        self.tell(command, {**headers, "receipt": receipt}, body)
        self._expect(receipt, what, "Check destination and selector, and what the user may do there")

    def tell(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a frame. Raises BrokerLost."""
        if self.ended is not None:
            raise BrokerLost(self.ended)
        self._protocol.send_frame(command, dict(headers), body)

    def leave(self) -> None:
        """Say good-bye, so that the broker has read all we sent before the connection goes. Never raises."""
        # First, so that the reader does not wait for room and comes to the broker's answer.
        self.frames.end(f"we left {self._name}")
        with suppress(BrokerError):
            self.tell("DISCONNECT", {"receipt": "good-bye"})
            self._expect("good-bye", "our good-bye")
        self._hang_up(f"we left {self._name}")
        for thread in self._threads:
            thread.join(FAREWELL)

    def _expect(self, answer: str, what: str, advice: str = "") -> None:
        patience = self._settings.connect_timeout
        with self._news:
            self._news.wait_for(lambda: answer in self._answers or self.ended is not None, patience)
            if answer in self._answers:
                self._answers.discard(answer)
                return
        if self._error is None:
            self._hang_up(f"{self._name} did not answer {what} within {patience:g} s")
            raise BrokerLost(self.ended)
        if "already connected" in self._error:
            advice = "Stop the other muleteer that uses this client_id, or give this one another"
        raise BrokerRefused(f"{self._name} refused {what}: {self._error}. {advice}")

    def _end(self, why: str) -> None:
        with self._news:
            if self.ended is None:
                self.ended = why
            self._news.notify_all()
        self.frames.end(why)

    def _hang_up(self, why: str) -> None:
        self._end(why)
        self.running = False
        # Before the connection is marked as gone: in between, the heart-beat thread would sleep a whole interval.
        self._protocol.on_disconnected()
        self._wire.hang_up()

    # From here on stomp.py calls: `disconnect_socket` from the thread of its heart-beats, `send` from any, the rest
    # from the one that reads.

    def _start_reader(self, _: Callable[[], None]) -> threading.Thread:
        """stomp.py offers its own loop; ours parses frames faster (see `frames`), and ends when the wire does."""
        reader = threading.Thread(target=self._read, name=f"read {self._name}", daemon=True)
        self._threads.append(reader)
        reader.start()
        return reader

    def _read(self) -> None:
        frames = FrameReader()
        try:
            while self.running:
                for frame in frames.feed(self.receive()):
                    self.process_frame(frame, b"")
        finally:
            self.cleanup()

    def receive(self) -> bytes:
        """The next bytes. What the last ones held has been parsed by now, and is handed over together."""
        if self._parsed:
            self.frames.put(self._parsed)
            self._parsed = []
            while not self.frames.wait_for_room(timeout=self._breath()):
                # We do not listen: the silence is ours, not the broker's.
                self._protocol.on_heartbeat()
        try:
            data = self._wire.read(CHUNK)
        except OSError as error:
            self._hang_up(f"{self._name} broke the connection ({error}); what is not acknowledged will come again")
            return b""
        if data:
            # A heart-beat is any byte: a large frame may take longer than the interval.
            self._protocol.on_heartbeat()
        else:
            self._hang_up(f"{self._name} closed the connection; what is not acknowledged will come again")
        return data

    def process_frame(self, frame: Any, raw: bytes) -> None:
        match frame.cmd:
            case "MESSAGE":
                self._parsed.append(Frame(frame.headers, frame.body))
            case "RECEIPT":
                self._answer(frame.headers.get("receipt-id", ""))
            case "ERROR":
                self._error = _words(frame)
                self._hang_up(f"{self._name} sent an error: {self._error}")
            case "CONNECTED":
                self._beat_early(frame)
                super().process_frame(frame, raw)  # begins the heart-beats
                if beating := self._protocol.heartbeat_thread:
                    self._threads.append(beating)
                self._answer("CONNECTED")

    def _beat_early(self, connected: Any) -> None:
        # stomp.py beats exactly when its time is over, and ActiveMQ ends the connection when a beat is a moment late.
        # So we let stomp.py believe that half the interval was agreed.
        theirs, wanted = connected.headers.get("heart-beat", "0,0").split(",")
        connected.headers["heart-beat"] = f"{theirs},{int(wanted) // 2}"
        ours, silence = self._protocol.heartbeats
        self._protocol.heartbeats = (ours // 2, silence)

    def send(self, encoded_frame: bytes) -> None:
        try:
            self._wire.write(encoded_frame)
        except OSError as error:
            why = f"{self._name} broke the connection ({error}); what is not acknowledged will come again"
            self._hang_up(why)
            raise BrokerLost(why) from error

    def disconnect_socket(self) -> None:
        silent = f"sent nothing for {self._protocol.receive_sleep:g} s, not even a heart-beat"
        self._hang_up(f"{self._name} {silent}; what is not acknowledged will come again")

    def cleanup(self) -> None:
        self._hang_up(f"the connection to {self._name} ended")
        self._wire.close()

    def _answer(self, answer: str) -> None:
        with self._news:
            self._answers.add(answer)
            self._news.notify_all()

    def _breath(self) -> float:
        return (self._settings.heartbeat or 10_000) / 1000


def _words(frame: Any) -> str:
    """What an ERROR frame says, without the Java stack trace that ActiveMQ puts into the body."""
    text: str = frame.headers.get("message") or frame.body.decode(errors="replace")
    return text.strip().partition("\n")[0] or "no reason given"


def _name(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _scheme(settings: StompSettings) -> str:
    return "stomp+ssl" if settings.tls else "stomp"


def _tls(settings: StompSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        files = ", ".join(str(file) for file in (settings.ca_file, settings.cert_file, settings.key_file) if file)
        raise BrokerRefused(
            f"cannot use the certificates in {files} ({error}). Check ca_file, cert_file, key_file"
        ) from error
    return context
