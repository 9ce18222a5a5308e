"""The door to a real Rucio server: the only place that knows Rucio's own client.

* `access`: where the server is and as whom we speak to it; `session` is Rucio's client for one thread
* `calls`, with the `breaker`, carries calls out: what may be repeated is, and `errors` gives them our names
* `rows` reads what the server answers, `rses` knows where an RSE keeps files, `addresses` what a path is as a URL
* `catalog` is the catalog, on `reading`, `above` (what things are in), `filling` (after `checking`), `closing` and
  `holding`
"""
