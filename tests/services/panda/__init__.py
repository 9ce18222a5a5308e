"""A stand-in for a PanDA server with iDDS behind it, for the unmodified panda-client and for our own client.

    with PandaServer() as panda:                    # 127.0.0.1, a free port
        env = panda.environment(make_token())       # for a subprocess with prun, pchain or pandaclient.Client
        panda.workflows("user.shrek.tag")           # what iDDS was asked for with this outDS: one, hopefully
        panda.tasks("user.shrek.tag_000_top")       # all tasks of a name; .task(name or id) is the newest
        panda.advance("user.shrek.tag_000_top", "running", files=10, finished=4, failed=1, error="out of memory")
        panda.fault("put_workflow_request", "lost") # the next call takes effect, its answer is lost
        panda.calls["put_workflow_request"]         # calls by name; .handled counts those that took effect

* `client.run("PchainScript", ..., cwd=, environment=env)` and `client.call(("killTask", [id], {}), ...)` run the real
  panda-client; `direct` has quick calls without it. HOME must not be the directory of a submission: prun asks then.
* Calls are named `task/submit`, `file_server/upload_cache_file`, `put_workflow_request`, `relay_idds_command`,
  `cache`. Faults take the same names, with `*`.
* `fault(path, kind, nth=1, times=1, seconds=0, handled=None)`: kinds are 500 503 403 404 html cut empty drop lost
  hang hang_after slow late; faults.KINDS says what each does. `times=None`: from the nth call on, all of them.
* Tasks stay where they are: `advance()` moves them, or `live(step_seconds=1)` lets them move by themselves
  (registered, defined, ready, running, done; parents before children). JEDI knows a task at once unless
  `configure(refine_after=None)`; then "Task not found" until `refine(name)` or `settle()`. Commands show at once
  unless `configure(command_seconds=None)`; then at `settle()`. `configure(hold_workflows=True)`: request ids, no tasks.
* A step of a workflow becomes a task when its gate opens: with one parent when that has started (JEDI knows it), with
  several when they are processed (done, finished), with `when` as it says.
* `stop()` and `start()`: away and back, with the same port and memory.
* From another process: `python -m tests.services.panda --port N [--directory D] [--live S] [--slow S]`; `GET /_control`
  is everything as JSON, `POST /_control` with `{"do": "advance", "task": ..., "status": ...}` is `advance()`, and so
  on for the other methods. PandaControl does it.
* `make_token(name=, nickname=, groups=, expires=)` makes tokens; nobody signs them and nobody looks at signatures.
  `Origin: sphenix` is a user, `sphenix.production` and `sphenix:production` have the production role.

As on the real server: nothing is de-duplicated in put_workflow_request, `%{DSn}` is put into opt_exec but not into the
`prun` line made of opt_args (`%{SECDSn}` is put into both), a child's input is named after the first output of its
parent, and a POST without Content-Type has no parameters. Not here: signatures of tokens, device flow, loops, steps
other than prun (and junction, which fails as on the server), and quotas.
"""

from .control import PandaControl
from .faults import KINDS, Fault
from .model import Request, Task, Work
from .server import PandaServer
from .tokens import make_token

__all__ = ["KINDS", "Fault", "PandaControl", "PandaServer", "Request", "Task", "Work", "make_token"]
