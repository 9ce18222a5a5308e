"""The composition root: what picks real or embedded, and puts the pieces together.

It alone imports every room. Everything else gets what it needs as an argument. There is one object, `Muleteer`, in
layers, each of which knows those below it:

* `told`: what the settings say of the store and the broker, in their own terms;
* `doors`: the store, the broker and the catalog;
* `registering`: what puts files into datasets;
* `launching`: the engine, and what hands workflows in and follows them;
* `transient`: what lets transient datasets leave;
* `muleteer`: everything else, from the listener to the window.
"""

from orchestrator.wiring.launching import BUNDLED_WORKFLOWS as BUNDLED_WORKFLOWS
from orchestrator.wiring.muleteer import Muleteer as Muleteer
from orchestrator.wiring.told import store_url as store_url
