"""What we believe against what the catalog has.

`reconciler` finds closings that nobody announced. `checker` says what is not as it should be with datasets, collections
and runs; `doorkeeper` looks at what dispatches require before any worker gets them; `gate` asks, for it and for
workers, whether a closing is still true; `acting` is what actors get of all that.
"""
