"""Fourth stop: a workflow becomes a submission, and is followed to its end.

* read: `workflows` finds definitions (`definition`), ours and shrek's (`shrek`); `folders` are their files, `sites` the
  profiles of PanDA's sites
* sent: `launcher`, with `intending` (planned, packed and written down before anything is sent), `planning`, `building`
  (the same for people who look first), `provenance` (what git says of the definition), `receipts` (every try is kept)
* followed: `watcher`, `outputs` (what it made goes into the catalog), `callback` (what jobs tell)
* acted on: `commands`, `failure_gathering` and `failure_table` (why jobs failed)
* kept: `git_archive`, `git_archivist`, `git_files`, `git_page`, `git_run`
"""
