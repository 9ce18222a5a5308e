"""Transient datasets: those whose successor is proved complete are released, and leave. Nothing else ever does.

`surveyor` goes through the catalog and says of each dataset that a policy matches whether it may leave; `proving`
proves one, with `asking` (what many are asked for at once), `looking` (its files) and `sighting` (the same on the
disk); `regime` is what policies, settings and people have said by now, and `remarks` logs what a survey refused.
`releaser` takes releases into the store, exactly as they were planned. When the time to take them back is over,
`leaver` proves each once more and has the catalog let it go: `settling` says what is still there, `objecting` what has
come up against it, `calling` makes the calls, and `witness` looks at the disks.
`recalling` stops one that is on its way. `noticing` hears of what others did; `reporting` says what leaves soon, and
what takes too long. `desk` is where people and the service come to, and `acting` what actors get of it; `turn` has one
process of several look for all.
"""
