"""Door: what is remembered. SQLite by default, PostgreSQL by URL, one schema. In the order in which a message meets it:

* taken in: `intake`, `messages`; `reconciliations` (what the broker lost)
* judged: `judging`, with `facts` (the catalog's answers), `run_flags` (what people said of runs), `restraints` (loop
  guard, prescale, unique keys), and the waiting rooms `chambers`, `joining`, `room_settling`, `rooms`
* carried out: `requirements` (what must hold first), `dispatches` and `claiming`, with `gates`, `candidates`,
  `standings` and `suspensions`; `launches`, with `launch_archive` (what was sent, and every try), `launch_rows`,
  `launch_listing` (filters, sums by run) and `launch_commands` (what people ask), `launch_retries` (what policies
  ask), `calling_off` (what they shall not ask) and `job_reports` (what jobs tell)
* brought into the catalog: `registrations` with `registration_rows`, `registration_calls` (whose list counts) and
  `registration_planning`
* released when nobody needs them any more: `transients`, in its parts `transient_seeing`, `transient_releasing`,
  `transient_claiming`, `transient_leaving`, `transient_recalling`, `transient_copies`, `transient_reporting`,
  `transient_spending` (what each release costs and frees), `transient_telling`, with `transient_rows`;
  `transient_policies` (`transient_versions` reads them), `transient_keeps`, `transient_readers` (what work of ours
  needs datasets), and `transient_meanwhile` (which asks these three once more)
* changed by people: `rules` and `rule_history`, `by_hand`, `dispatching_by_hand`, `forcing`
* done by one process at a time: `turns`
* looked at and done again: `journal`, `history`, `replays`, `replay_batch`, `replaying`, `rejoining`, `foreseeing`

`tables` are what all of them keep, `migrations` and `schema` build them, `engine` opens the database, `signals` and
`relay` tell a waiting loop that something was committed, `store` hands all of it round.
"""
