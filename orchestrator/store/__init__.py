"""Door: what is remembered. SQLite by default, PostgreSQL by URL, one schema.

`messages` (with `intake`), `rules`, `dispatches` (with `judging`), `launches` and `journal` each keep one group of
`tables`; `engine` opens the database, `signals` and `relay` tell a waiting loop that something was committed, `schema`
and `migrations` build the tables.
"""
