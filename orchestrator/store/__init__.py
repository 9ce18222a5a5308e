"""Door: what is remembered. SQLite by default, PostgreSQL by URL, one schema.

`messages`, `rules`, `dispatches`, `launches` and `journal` each keep one group of `tables`; `engine` opens the
database, `signals` tells a waiting loop that something was committed, `migrations` builds the schema.
"""
