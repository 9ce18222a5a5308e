"""Apache ActiveMQ Classic, as Debian packages it: the broker Rucio's messages really come from."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from .child import Child
from .ports import free_port

HOME = Path("/usr/share/activemq")
JAR = HOME / "bin" / "activemq.jar"


class ActiveMQ:
    """One broker on loopback with a private directory; after `start()` it speaks STOMP 1.0 to 1.2.

    Queues, durable topics and virtual topics work as in ActiveMQ's default configuration. `persistent:true`
    messages survive `stop()` and `kill()`: a new `start()` brings them back on the same ports.
    """

    #: The one account. It may do everything; without it nobody may do anything.
    user = "muleteer"
    passcode = "carrot-and-stick"

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "broker.log"
        #: Plain STOMP.
        self.port = free_port()
        #: STOMP over TLS, with a certificate for `localhost` and `127.0.0.1`.
        self.tls_port = free_port()
        #: PEM file of the certificate a client has to trust.
        self.ca_file = self.directory / "ca.pem"
        self._child: Child | None = None

    @staticmethod
    def missing() -> str | None:
        """Why the broker cannot run on this machine, or None."""
        for program in ("java", "openssl"):
            if shutil.which(program) is None:
                return f"{program} is not on PATH"
        if not JAR.exists():
            return f"{JAR} does not exist: apt-get install --no-install-recommends activemq"
        return Child.missing()

    @property
    def pid(self) -> int:
        """The broker's process id. Raises RuntimeError before the first `start()`."""
        return self._started.pid

    def start(self, patience: float = 60) -> None:
        """Start the broker and wait until it lets our account in.

        Raises RuntimeError with the end of the broker's log if it does not within `patience` seconds.
        """
        if self._child is not None and self._child.running:
            raise RuntimeError(f"the broker already runs as process {self._child.pid}: stop() it first")
        self._furnish()
        self._child = Child(self._command(), log=self.log, goodbye=signal.SIGTERM)
        deadline = time.monotonic() + patience
        while not self._answers():
            if time.monotonic() > deadline or not self._child.running:
                self._child.kill()
                raise RuntimeError(f"ActiveMQ did not come up; {self.log} ends with:\n{self._log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut the broker down in order."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End the broker with SIGKILL: clients see their connections close at once."""
        self._started.kill()

    def suspend(self) -> None:
        """Freeze the broker: connections stay open, heart-beats stay out."""
        self._started.suspend()

    def resume(self) -> None:
        """Let a suspended broker go on."""
        self._started.resume()

    @property
    def _started(self) -> Child:
        if self._child is None:
            raise RuntimeError("the broker was never started: call start() first")
        return self._child

    def _furnish(self) -> None:
        """Write what the broker reads at its start."""
        (self.directory / "data" / "tmp").mkdir(parents=True, exist_ok=True)
        if not self.ca_file.exists():
            self._make_certificate()
        (self.directory / "log4j.properties").write_text(LOGGING)
        (self.directory / "activemq.xml").write_text(self._configuration())

    def _make_certificate(self) -> None:
        key, keystore = self.directory / "key.pem", self.directory / "broker.p12"
        _openssl(
            *("req", "-x509", "-days", "30", "-subj", "/CN=localhost", "-out", self.ca_file),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            # Python 3.13 checks certificates strictly: one that signs itself has to say it may.
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
        )
        _openssl(
            *("pkcs12", "-export", "-in", self.ca_file, "-inkey", key),
            *("-out", keystore, "-passout", "pass:changeit"),
        )

    def _configuration(self) -> str:
        # ActiveMQ validates the XML before it fills in its own ${placeholders}, so we fill in ours here.
        return CONFIGURATION.format(
            directory=self.directory,
            user=self.user,
            passcode=self.passcode,
            port=self.port,
            tls_port=self.tls_port,
        )

    def _command(self) -> list[str | Path]:
        packages = ("lang", "util", "util.concurrent", "util.concurrent.atomic")
        return [
            *("java", "-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in packages),
            # log4j 1.x: Debian's build logs through slf4j-log4j12.
            f"-Dlog4j.configuration=file:{self.directory}/log4j.properties",
            f"-Dactivemq.home={HOME}",
            f"-Dactivemq.base={self.directory}",
            f"-Dactivemq.conf={self.directory}",
            f"-Dactivemq.data={self.directory}/data",
            f"-Dactivemq.classpath={self.directory}:",
            f"-Djava.io.tmpdir={self.directory}/data/tmp",
            *("-jar", JAR, "start", f"xbean:file:{self.directory}/activemq.xml"),
        ]

    def _answers(self) -> bool:
        """Whether our account gets in. An open port alone is too early: it may only be bound."""
        hello = f"CONNECT\naccept-version:1.2\nhost:here\nlogin:{self.user}\npasscode:{self.passcode}\n\n\0"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(hello.encode())
                return connection.recv(4096).startswith(b"CONNECTED")
        except OSError:
            return False

    def _log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


LOGGING = """\
log4j.rootLogger=WARN, console
log4j.logger.org.apache.activemq.broker=INFO
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d | %-5p | %m | %c | %t%n
"""

# No flow control: a backlog of 100,000 messages goes to the disk instead of making the sender wait.
# The TLS door opens first, so both are open when the plain one answers.
CONFIGURATION = """\
<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans
                           http://www.springframework.org/schema/beans/spring-beans.xsd
                           http://activemq.apache.org/schema/core
                           http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="muleteer"
          dataDirectory="{directory}/data" useJmx="false" advisorySupport="false" schedulerSupport="false">
    <destinationPolicy>
      <policyMap>
        <policyEntries>
          <policyEntry queue="&gt;" producerFlowControl="false"/>
          <policyEntry topic="&gt;" producerFlowControl="false"/>
        </policyEntries>
      </policyMap>
    </destinationPolicy>
    <persistenceAdapter>
      <kahaDB directory="{directory}/data/kahadb" journalMaxFileLength="16mb"/>
    </persistenceAdapter>
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="false">
        <users>
          <authenticationUser username="{user}" password="{passcode}" groups="everyone"/>
        </users>
      </simpleAuthenticationPlugin>
    </plugins>
    <sslContext>
      <sslContext keyStore="file:{directory}/broker.p12" keyStoreType="PKCS12" keyStorePassword="changeit"/>
    </sslContext>
    <systemUsage>
      <systemUsage>
        <memoryUsage><memoryUsage limit="32 mb"/></memoryUsage>
        <storeUsage><storeUsage limit="2 gb"/></storeUsage>
        <tempUsage><tempUsage limit="1 gb"/></tempUsage>
      </systemUsage>
    </systemUsage>
    <transportConnectors>
      <transportConnector name="tls" uri="stomp+nio+ssl://127.0.0.1:{tls_port}?wireFormat.maxFrameSize=104857600"/>
      <transportConnector name="plain" uri="stomp+nio://127.0.0.1:{port}?wireFormat.maxFrameSize=104857600"/>
    </transportConnectors>
  </broker>
</beans>
"""
