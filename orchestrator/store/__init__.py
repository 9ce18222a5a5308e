"""Door: what is remembered. SQLite by default, PostgreSQL by URL, one schema. In the order in which a message meets it:

* taken in: `intake`, `messages`
* judged: `judging`, with `facts` (the catalog's answers), `run_flags` (what people said of runs), `restraints` (loop
  guard, prescale, unique keys), and the waiting rooms `chambers`, `joining`, `room_settling`, `rooms`
* carried out: `dispatches` and `claiming`, with `gates`, `candidates`, `standings` and `suspensions`; `launches`
* changed by people: `rules` and `rule_history`, `by_hand`, `dispatching_by_hand`, `forcing`
* looked at and done again: `journal`, `history`, `replays`, `replaying`, `foreseeing`

`tables` are what all of them keep, `migrations` and `schema` build them, `engine` opens the database, `signals` and
`relay` tell a waiting loop that something was committed, `store` hands all of it round.
"""
