"""What every broker promises, and what the one over STOMP promises beyond it, on a real ActiveMQ."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.broker.embedded import EmbeddedBroker
from orchestrator.broker.port import BrokerLost, BrokerRefused, Subscription
from tests.contract.brokers import EmbeddedRig, Rig, StompRig, bodies, take
from tests.services.activemq import ActiveMQ
from tests.services.ports import free_port

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]

_numbers = itertools.count(1)


@pytest.fixture
def stomp(activemq: ActiveMQ) -> Iterator[StompRig]:
    rig = StompRig(activemq, f"/queue/test.{next(_numbers)}")
    with rig.stack:
        yield rig


@pytest.fixture(params=["embedded", "stomp-1.1", "stomp-1.2", "stomp-tls"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "embedded":
        embedded = EmbeddedRig(tmp_path / "queue.db")
        with embedded.stack:
            yield embedded
        return
    stomp: StompRig = request.getfixturevalue("stomp")
    if request.param == "stomp-tls":
        address = ("127.0.0.1", stomp.activemq.tls_port)
        stomp.settings = {"addresses": (address,), "tls": True, "ca_file": stomp.activemq.ca_file}
    else:
        stomp.settings = {"version": request.param.removeprefix("stomp-")}
    yield stomp


def subscribe(rig: Rig, *, batch_frames: int = 500, batch_bytes: int = 8 * MIB) -> Subscription:
    subscription = rig.broker(batch_frames=batch_frames, batch_bytes=batch_bytes).subscribe()
    rig.stack.callback(subscription.close)
    return subscription


def send(rig: Rig, *frames: bytes) -> None:
    broker = rig.broker()
    for body in frames:
        broker.send({"event_type": "close"}, body)


def numbered(count: int) -> list[bytes]:
    return [f"frame {number}".encode() for number in range(count)]


# Every broker


def test_order(rig: Rig) -> None:
    """Frames arrive in the order in which they were sent."""
    send(rig, *numbered(150))

    assert bodies(take(subscribe(rig), 150)) == numbered(150)


def test_kept_without_a_consumer(rig: Rig) -> None:
    """What is sent while nobody is subscribed waits, also when its sender is gone."""
    broker = rig.broker()
    broker.send({}, b"early")
    broker.close()

    assert bodies(subscribe(rig).receive(10)) == [b"early"]


def test_check(rig: Rig) -> None:
    """A check takes nothing away: what waits is there for the next subscription."""
    broker = rig.broker()
    broker.send({}, b"waiting")

    broker.check()

    assert bodies(subscribe(rig).receive(10)) == [b"waiting"]


def test_sent_while_waiting(rig: Rig) -> None:
    """A frame that is sent while somebody waits for it arrives at once."""
    subscription = subscribe(rig)
    sender = rig.broker()
    sender.send({}, b"warm")
    subscription.receive(10)
    began = time.monotonic()
    timer = threading.Timer(0.3, sender.send, ({}, b"now"))
    timer.start()

    assert bodies(subscription.receive(10)) == [b"now"]
    assert time.monotonic() - began < 1
    timer.join()


def test_send_again_after_close(rig: Rig) -> None:
    """`send` works on after `close`, and from several threads at once."""
    broker = rig.broker()
    broker.send({}, b"frame 0")
    broker.close()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda body: broker.send({}, body), numbered(20)[1:]))

    assert sorted(bodies(take(subscribe(rig), 20))) == sorted(numbered(20))


def test_batch_bounded_in_frames(rig: Rig) -> None:
    """A batch holds no more frames than it may; the rest comes with the next ones."""
    send(rig, *numbered(25))
    subscription = subscribe(rig, batch_frames=10)
    first = subscription.receive(10)
    time.sleep(0.3)  # whatever the first batch was, now all the others are here

    assert 1 <= len(first) <= 10
    assert len(subscription.receive(10)) == 10


def test_batch_bounded_in_bytes(rig: Rig) -> None:
    """A batch holds no more bytes than it may."""
    send(rig, b"first", *[b"x" * 400] * 5)
    subscription = subscribe(rig, batch_bytes=1000)
    first = take(subscription, 1)
    time.sleep(0.3)
    rest = 6 - len(first)
    sizes = [len(subscription.receive(10)) for _ in range(rest // 2)]

    assert sizes == [2] * (rest // 2)


def test_large_frame_comes_alone(rig: Rig) -> None:
    """A frame that is larger than a batch may be comes by itself."""
    send(rig, b"before", b"x" * 5000, b"after")
    subscription = subscribe(rig, batch_bytes=1000)
    batches = [bodies(subscription.receive(10)) for _ in range(3)]

    assert batches == [[b"before"], [b"x" * 5000], [b"after"]]


def test_acknowledged_is_gone(rig: Rig) -> None:
    """What was acknowledged does not come again."""
    send(rig, *numbered(5))
    subscription = subscribe(rig)
    take(subscription, 5)
    subscription.acknowledge()
    subscription.close()

    assert subscribe(rig).receive(0.5) == []


def test_not_acknowledged_comes_again(rig: Rig) -> None:
    """What was not acknowledged comes again to the next subscription, in order, marked as redelivered."""
    send(rig, *numbered(100))
    subscription = subscribe(rig)
    take(subscription, 100)
    subscription.close()
    again = take(subscribe(rig), 100)

    assert bodies(again) == numbered(100)
    assert {frame.headers.get("redelivered") for frame in again} == {"true"}


def test_acknowledgement_is_cumulative(rig: Rig) -> None:
    """One acknowledgement covers every batch handed out before it."""
    send(rig, *numbered(30))
    subscription = subscribe(rig, batch_frames=10)
    take(subscription, 30)
    subscription.acknowledge()
    subscription.close()

    assert subscribe(rig).receive(0.5) == []


def test_acknowledgement_covers_only_what_was_handed_out(rig: Rig) -> None:
    """Frames that were not handed out yet stay with the broker, also when an acknowledgement follows."""
    send(rig, *numbered(5))
    subscription = subscribe(rig, batch_frames=3)
    handed_out = list(subscription.receive(10))
    time.sleep(0.3)
    subscription.acknowledge()
    subscription.close()

    assert bodies(take(subscribe(rig), 5 - len(handed_out))) == numbered(5)[len(handed_out) :]


def test_acknowledging_nothing(rig: Rig) -> None:
    """An acknowledgement without anything to acknowledge does nothing."""
    send(rig, b"one")
    subscription = subscribe(rig)
    subscription.acknowledge()
    frames = subscription.receive(10)
    subscription.acknowledge()
    subscription.acknowledge()

    assert bodies(frames) == [b"one"]
    assert subscription.receive(0.1) == []


def test_two_subscriptions_lose_nothing(rig: Rig) -> None:
    """Whatever two subscriptions do at once, every frame comes to at least one of them."""
    one, other = subscribe(rig), subscribe(rig)
    send(rig, *numbered(40))
    seen: set[bytes] = set()
    deadline = time.monotonic() + 20
    while len(seen) < 40 and time.monotonic() < deadline:
        for subscription in (one, other):
            seen.update(bodies(subscription.receive(0.3)))
            subscription.acknowledge()

    assert seen == set(numbered(40))


def test_time_is_over(rig: Rig) -> None:
    """Without frames an empty batch comes once the time is over."""
    subscription = subscribe(rig)
    began = time.monotonic()

    assert subscription.receive(0.3) == []
    assert 0.25 < time.monotonic() - began < 1


def test_wake(rig: Rig) -> None:
    """`wake` ends a waiting `receive` at once, from another thread."""
    subscription = subscribe(rig)
    began = time.monotonic()
    timer = threading.Timer(0.3, subscription.wake)
    timer.start()

    assert subscription.receive(30) == []
    assert time.monotonic() - began < 1
    timer.join()


def test_wake_before_the_wait(rig: Rig) -> None:
    """`wake` just before `receive` is not lost; it counts once."""
    subscription = subscribe(rig)
    subscription.wake()
    began = time.monotonic()

    assert subscription.receive(30) == []
    assert time.monotonic() - began < 1
    assert subscription.receive(0.3) == []
    assert time.monotonic() - began > 0.25


def test_close_twice(rig: Rig) -> None:
    """A second `close` does no harm."""
    subscription = subscribe(rig)
    subscription.close()
    subscription.close()


def test_headers(rig: Rig) -> None:
    """A frame brings the sender's headers, and those a broker adds: a message-id of its own, when, and where."""
    rig.broker().send({"event_type": "close"}, b"one")
    rig.broker().send({"event_type": "erase"}, b"two")
    one, two = take(subscribe(rig), 2)
    sent_at = datetime.fromtimestamp(int(one.headers["timestamp"]) / 1000, UTC)

    assert (one.headers["event_type"], two.headers["event_type"]) == ("close", "erase")
    assert one.headers["persistent"] == "true"
    assert one.headers["destination"].startswith("/queue/")
    assert one.headers["message-id"].startswith("ID:")
    assert one.headers["message-id"] != two.headers["message-id"]
    assert abs((datetime.now(UTC) - sent_at).total_seconds()) < 60


def test_header_with_special_characters(rig: Rig) -> None:
    """Headers may hold what STOMP must escape, and any letter."""
    value = "a:b\\c\nd\\n é 驢"
    rig.broker().send({"odd": value}, b"")

    assert subscribe(rig).receive(10)[0].headers["odd"] == value


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe\x80 not text \xc3", id="not UTF-8"),
        pytest.param(b"\x00a\x00\x00\n\n\x00", id="NUL bytes"),
        pytest.param(b"\n\r\n body \n\n", id="line ends"),
        pytest.param("{" + '"key": "value", ' * 655_360 + "}", id="10 MiB"),
        pytest.param(bytes(range(256)) * 4 * 10 * 1024, id="10 MiB with NUL bytes"),
    ],
)
def test_body(rig: Rig, body: bytes | str) -> None:
    """A body arrives byte for byte, and the frame after it is whole."""
    sent = body.encode() if isinstance(body, str) else body
    send(rig, sent, b"next")
    subscription = subscribe(rig)
    frames = take(subscription, 2)
    subscription.acknowledge()  # or else ActiveMQ's memory is soon full of these, and it sends nothing any more

    assert bodies(frames) == [sent, b"next"]


# The embedded broker


def test_embedded_from_another_process(tmp_path: Path) -> None:
    """A frame that another process sends arrives within a fraction of a second."""
    path = tmp_path / "queue.db"
    subscription = EmbeddedBroker(path).subscribe()
    program = (
        "import sys, time, pathlib; from orchestrator.broker.embedded import EmbeddedBroker;"
        "broker = EmbeddedBroker(pathlib.Path(sys.argv[1])); broker.send({}, b'other'); print(time.time())"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        frames = subscription.receive(30)
        arrived = time.time()
        sent = float(other.communicate()[0])
    subscription.close()

    assert bodies(frames) == [b"other"]
    assert arrived - sent < 0.5


def test_embedded_without_a_directory(tmp_path: Path) -> None:
    """Where no file can be made, the error says which and what to check."""
    broker = EmbeddedBroker(tmp_path / "nowhere" / "queue.db")

    with pytest.raises(BrokerLost, match=r"nowhere/queue\.db: unable to open database file\. Check that the dir"):
        broker.subscribe()


def test_embedded_on_a_foreign_file(tmp_path: Path) -> None:
    """A file that is something else is refused and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("not a queue, but somebody's notes " * 100)

    with pytest.raises(BrokerRefused, match=r"notes.txt: file is not a database"):
        EmbeddedBroker(path).send({}, b"")
    assert path.read_text().startswith("not a queue")


# ActiveMQ


def test_wrong_passcode(stomp: StompRig) -> None:
    """A refused login says where, who and what to check, and never the passcode."""
    with pytest.raises(BrokerRefused) as refusal:
        stomp.subscribe(passcode="guess-work")

    assert f"127.0.0.1:{stomp.activemq.port} refused user 'muleteer'" in str(refusal.value)
    assert "Check user and passcode" in str(refusal.value)
    assert "guess-work" not in str(refusal.value)


def test_no_broker(stomp: StompRig) -> None:
    """When no address answers, the error names each one with its reason."""
    one, other = free_port(), free_port()

    with pytest.raises(BrokerLost) as lost:
        stomp.subscribe(addresses=(("127.0.0.1", one), ("localhost", other)))
    assert f"127.0.0.1:{one} cannot be reached ([Errno 111] Connection refused)" in str(lost.value)
    assert f"localhost:{other} cannot be reached" in str(lost.value)


def test_failover(stomp: StompRig) -> None:
    """When an address does not answer, the next one is tried."""
    broker = stomp.broker(addresses=(("127.0.0.1", free_port()), ("127.0.0.1", stomp.activemq.port)))
    broker.send({}, b"found")
    subscription = broker.subscribe()

    assert bodies(subscription.receive(10)) == [b"found"]
    subscription.close()


def test_selector(stomp: StompRig) -> None:
    """With a selector only what it selects arrives; the rest stays in the queue."""
    broker = stomp.broker()
    for event_type in ("open", "close", "erase", "close"):
        broker.send({"event_type": event_type}, event_type.encode())
    choosy = stomp.subscribe(selector="event_type = 'close'")
    chosen = take(choosy, 2)
    choosy.acknowledge()
    choosy.close()

    assert bodies(chosen) == [b"close", b"close"]
    assert bodies(take(stomp.subscribe(), 2)) == [b"open", b"erase"]


def test_wrong_selector(stomp: StompRig) -> None:
    """A selector that the broker does not understand is refused, with the broker's words."""
    with pytest.raises(BrokerRefused, match=r"refused the subscription to /queue/.*selector"):
        stomp.subscribe(selector="event_type = = 'close'")


def test_durable_topic(stomp: StompRig) -> None:
    """A durable subscription to a topic gets what was sent while it was away."""
    stomp.settings = {"destination": "/topic/durable"}
    durable = {"client_id": "test.durable", "subscription_name": "events"}
    stomp.subscribe(**durable).close()
    stomp.broker().send({}, b"while away")

    assert bodies(stomp.subscribe(**durable).receive(10)) == [b"while away"]


def test_client_id_twice(stomp: StompRig) -> None:
    """A client-id that is in use is refused, and the error says that another muleteer has it."""
    stomp.settings = {"destination": "/topic/twice", "client_id": "test.twice", "subscription_name": "events"}
    stomp.subscribe()

    with pytest.raises(BrokerRefused, match=r"test\.twice.*Stop the other muleteer that uses this client_id"):
        stomp.subscribe()


def test_virtual_topic(stomp: StompRig) -> None:
    """A consumer's queue of a virtual topic gets what is sent to the topic."""
    consumer = stomp.subscribe(destination="/queue/Consumer.muleteer.VirtualTopic.events")
    stomp.broker(destination="/topic/VirtualTopic.events").send({}, b"for all")

    assert bodies(consumer.receive(10)) == [b"for all"]


def test_exclusive(stomp: StompRig) -> None:
    """An exclusive subscription gets everything, although another one is there."""
    exclusive, other = stomp.subscribe(exclusive=True), stomp.subscribe()
    send(stomp, *numbered(20))

    assert len(take(exclusive, 20)) == 20
    assert other.receive(0.2) == []


def test_prefetch(stomp: StompRig) -> None:
    """However many frames there are, no more than `prefetch` of them are with us."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: send(stomp, *numbered(750)), range(4)))
    subscription = stomp.subscribe(prefetch=100, batch_frames=3000)
    sizes: list[int] = []
    while sum(sizes) < 3000:
        if sizes and len(sizes) < 10:
            time.sleep(0.1)  # so that all the broker wants to send is here
        sizes.append(len(subscription.receive(10)))
        assert sizes[-1] > 0
        subscription.acknowledge()

    assert max(sizes) == 100


def test_full_hand_over(stomp: StompRig) -> None:
    """When too much waits for a slow consumer, the broker waits too; nothing is lost, and no heart-beat is missed."""
    send(stomp, *[b"x" * (256 * 1024)] * 40)
    subscription = stomp.subscribe(waiting_bytes=MIB, heartbeat=500)
    time.sleep(3)
    frames = take(subscription, 40)
    subscription.acknowledge()

    assert len(frames) == 40


def test_close_with_a_full_hand_over(stomp: StompRig) -> None:
    """`close` does not wait for a consumer that will not come any more."""
    send(stomp, *[b"x" * (256 * 1024)] * 40)
    subscription = stomp.subscribe(waiting_bytes=MIB)
    time.sleep(0.5)
    began = time.monotonic()
    subscription.close()
    took = time.monotonic() - began
    heir = stomp.subscribe()
    frames = take(heir, 40)
    heir.acknowledge()

    assert took < 2
    assert len(frames) == 40


@pytest.mark.parametrize("tls", [False, True])
def test_broker_killed(stomp: StompRig, tls: bool) -> None:
    """A broker that dies is noticed at once; when it is back everything not acknowledged comes again."""
    activemq = stomp.activemq
    if tls:
        address = ("127.0.0.1", activemq.tls_port)
        stomp.settings = {"addresses": (address,), "tls": True, "ca_file": activemq.ca_file}
    broker = stomp.broker()
    broker.send({}, b"survivor")
    subscription = broker.subscribe()
    subscription.receive(10)
    timer = threading.Timer(0.3, activemq.kill)
    timer.start()
    began = time.monotonic()
    with pytest.raises(BrokerLost, match="will come again"):
        subscription.receive(30)
    noticed = time.monotonic() - began
    with pytest.raises(BrokerLost):
        subscription.acknowledge()
    subscription.close()
    timer.join()
    with pytest.raises(BrokerLost):
        broker.send({}, b"too early")
    activemq.start()
    broker.send({}, b"later")
    frames = take(stomp.subscribe(), 2)

    assert noticed < 2
    assert bodies(frames) == [b"survivor", b"later"]


def test_broker_silent(stomp: StompRig) -> None:
    """A broker that is silent for three heart-beats counts as lost."""
    subscription = stomp.subscribe(heartbeat=500)
    began = time.monotonic()
    stomp.activemq.suspend()
    try:
        with pytest.raises(BrokerLost, match=r"sent nothing for 1\.5 s, not even a heart-beat"):
            subscription.receive(30)
        noticed = time.monotonic() - began
    finally:
        stomp.activemq.resume()

    assert 1 < noticed < 5


def test_login_not_answered(stomp: StompRig) -> None:
    """A broker that takes the connection and then says nothing counts as lost when its time is over."""
    began = time.monotonic()
    stomp.activemq.suspend()
    try:
        with pytest.raises(BrokerLost, match="did not answer user 'muleteer' within 1 s"):
            stomp.subscribe(connect_timeout=1)
        noticed = time.monotonic() - began
    finally:
        stomp.activemq.resume()

    assert noticed < 3


@pytest.mark.slow
def test_sparse_traffic(stomp: StompRig) -> None:
    """With little traffic, or none, the connection stays: neither side misses a heart-beat."""
    idle = [stomp.subscribe(destination=f"/queue/idle.{number}", heartbeat=500) for number in range(5)]
    subscription = stomp.subscribe(heartbeat=1000)
    sender = stomp.broker(heartbeat=1000)
    until = time.monotonic() + 8
    sent = received = 0
    while time.monotonic() < until:
        sender.send({}, b"now and then")
        sent += 1
        received += len(subscription.receive(1.7))
        subscription.acknowledge()
        time.sleep(0.4)

    assert received == sent
    for quiet in idle:
        assert quiet.receive(0) == []  # raises if the connection was lost


def test_secrets_stay_out_of_logs(stomp: StompRig, caplog: pytest.LogCaptureFixture) -> None:
    """Even with every log at its most talkative, the passcode is in none."""
    caplog.set_level(logging.DEBUG)
    stomp.broker().send({}, b"")
    stomp.subscribe()

    assert stomp.activemq.passcode not in caplog.text


def test_untrusted_certificate(stomp: StompRig) -> None:
    """A certificate that nobody we trust has signed is refused."""
    with pytest.raises(
        BrokerRefused, match=r"a certificate we do not trust \(self-signed certificate\).* Check ca_file"
    ):
        stomp.subscribe(addresses=(("127.0.0.1", stomp.activemq.tls_port),), tls=True)


def test_missing_ca_file(stomp: StompRig, tmp_path: Path) -> None:
    """A ca_file that cannot be read is named."""
    with pytest.raises(BrokerRefused, match=r"ca\.pem \(.*No such file or directory"):
        stomp.subscribe(tls=True, ca_file=tmp_path / "ca.pem")


def test_no_thread_stays_behind(stomp: StompRig) -> None:
    """After `close`, and after a failure, no thread and no connection is left."""
    before = set(threading.enumerate())
    for _ in range(3):
        broker = stomp.broker(heartbeat=500)
        broker.send({}, b"one")
        subscription = broker.subscribe()
        subscription.receive(10)
        subscription.close()
        broker.close()
    with pytest.raises(BrokerRefused):
        stomp.subscribe(passcode="guess-work")

    assert set(threading.enumerate()) == before
