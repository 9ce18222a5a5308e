"""Everything that is sent to PanDA, as bytes: the same submission always gives the same.

`package` puts it together from `cwl` and `prun` (how steps are described), `naming`, `streams` and `outputs` (how
things are called and found), `limits`, `readme` and `telling`. Sent as they are, and run elsewhere: `submit` by people,
`job`, `report` and `report.sh` by jobs.
"""
