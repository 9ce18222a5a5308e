"""Door: what runs workflows. `port` says what is asked of it; `plain` is a submission as text, the same for all.

* `embedded/`: the engine that comes with muleteer, on this machine
* `packing/`: everything that is sent to PanDA, as bytes
* `client/`: how PanDA is spoken to: its token, its HTTP, its own client in a process for each submission
* PanDA as an engine: `engine` (whole workflows) and `stepwise` (step after step, as `starting` decides), with
  `follower` and `following` (how far they are), `looking_up` (what is there already), `acting` (commands), `failing`
  (why jobs failed), `reference`
"""
