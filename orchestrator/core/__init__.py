"""The decisions, pure: from values to values. Nothing here reads a clock, a file, a socket or a database.

* a frame: `message`, `sieve`, `settlement`
* a rule and a message: `patterns`, `names`, `conditions`, `runs`, `clauses`, `values`, `templates`, `matching`, `joins`
* a dispatch, an actor, a launch: `gates`, `actor`, `dispatch`, `naming`, `workflow`; what may follow: `states`
* people: `documents`, `mistakes`, `reasons`, `by_hand`, `exchange`
* a rule and history: `preview` (with `past`, `asking`, `seen`, `plot`), `lint`, `cycles` (with `overlap`), `pacing`
"""
