"""The embedded catalog: Rucio's rules on one SQLite file, and its hermes in one method.

Source of the rules and of the shapes: Rucio 41.5.1 with its generic policy, measured.

* `catalog` is what others see.
* `dataset_rows` are those of datasets and containers, `file_rows` those of files and their copies, `holding` those of
  replication rules and of what they hold.
* `leaving` does what Rucio's undertaker, judge-cleaner and reaper do; `disk` deletes files.
* `rules` say what is accepted; `outbox` tells the broker what happened; `database` and `tables` are the SQLite file.
"""
