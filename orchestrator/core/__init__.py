"""The decisions, pure: from values to values. Nothing here reads a clock, a file, a socket or a database.

* a frame: `message`, `sieve`, `settlement`
* a rule and a message: `patterns`, `names`, `conditions`, `runs`, `clauses`, `values`, `templates`, `matching`, `joins`
* a dispatch, an actor, a launch: `gates`, `actor`, `dispatch`, `naming`, `workflow`; what may follow: `states`
* files on their way into the catalog: `registering`, `replanning`; what the catalog should have: `completeness`,
  `reconciling`
* datasets that leave when their successors are proved complete: the package `transient`
* a failed job: `failures`, `failure_groups`; a retry by policy: `retry_policy`, `retrying`, `retry_steps`
* shrek's files as a workflow: `shrek` (with `shrek_blocks`, `shrek_datasets`, `shrek_jobs`, `shrek_options`,
  `shrek_scripts`, `shrek_values`)
* people: `documents`, `mistakes`, `reasons`, `by_hand`, `exchange`
* a rule and history: `preview` (with `past`, `asking`, `seen`, `plot`), `lint`, `cycles` (with `overlap`), `pacing`
"""
