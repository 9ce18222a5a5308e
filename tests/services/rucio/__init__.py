"""A real Rucio: its server, its database, its daemons.

    with Rucio(directory, postgres.create_database("rucio", template)) as rucio:  # bootstrap() made the template
        rucio.catalog.add_scope("data")
        disk = rucio.catalog.add_rse("DISK", deterministic=False)               # a folder: disk.folder, disk.pfn("f")
        producer = rucio.catalog.add_account("producer")                        # a Login; root is the default
        client = rucio.client(producer)                                         # rucio-clients in this process
        subprocess.run(..., env={**os.environ, **rucio.environment(producer)})  # and in another one
        with rucio.hermes(broker.port, "/queue/events", user=broker.user, passcode=broker.passcode):
            ...                                                                 # Rucio's messages arrive
        rucio.run_daemon("undertaker")                                          # one round
        rucio.stop(), rucio.start()                                             # away and back, with all it knows

* Rucio is installed from PyPI into an environment of its own at the first use (`installation`).
* Daemons for one round: undertaker erases what has expired, judge-cleaner ends rules that have, judge-evaluator gives
  rules to what was attached later, `reaper --greedy` deletes files, abacus-rse and abacus-account count.
* Without memcached on PATH all works, but `list_replicas` of a large dataset takes ten times as long.
* By hand: `python -m tests.services.rucio --port N [--live SECONDS] [--hermes PORT]`.
"""

from .bootstrap import bootstrap
from .catalog import Catalog, Login, Rse
from .server import Rucio

__all__ = ["Catalog", "Login", "Rse", "Rucio", "bootstrap"]
