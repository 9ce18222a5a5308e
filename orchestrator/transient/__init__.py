"""Transient datasets: those whose successor is proved complete are released, and leave. Nothing else ever does.

* found: `surveyor` goes through the catalog and says of each dataset that a policy matches whether it may leave, in the
  order of `queueing`; `turn` has one process of several do so; `remarks` logs what was refused
* proved: `proving` one dataset, with `asking` (what many are asked for at once), `looking` (its files), `ruling`
  (replication rules on it and above) and `sighting` (the same on the disk, by `witness`); `regime` is what policies,
  settings and people have said by now
* released: `releaser` takes releases into the store, exactly as they were planned
* leaving, when the time to take them back is over: `leaver` proves each once more; `standing` says how it stands, with
  `settling` (what is still there), `objecting` (what has come up against it) and `resting` (what it rests on);
  `calling` makes the calls, each after what `demanding` demands; `keeping` and `holding` keep what is left while
  something speaks against it, with `on_files` (rules on single files); `memory` is what saves questions
* called back: `recalling`
* told: `noticing` hears of what others did; `reporting` says what leaves soon, and what takes too long

`desk` is where people and the service come to, and `acting` what actors get of it.
"""
