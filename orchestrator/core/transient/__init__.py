"""Whether a transient dataset may leave, and how it leaves. Pure: from values to values.

* `facts`: what has to be known of a dataset, each thing or why it could not be asked; `content`: a digest of many files
* `policies`: a policy, compiled, and what is wrong with one; `maps`: which files have gone into which
* `protection`: what stays whatever a policy says; `successors`: what must be there instead; `lasting`: whether that
  stays; `judging`: everything together, cheap things first; `proved`: the evidence, in words
* `releases`: what was proved, as a plan holds it, and what has changed since; `caps`: how much may leave in a day
* `steps`: what to do next with a dataset that leaves, of the `calls` that there are
"""
