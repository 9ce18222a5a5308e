"""Files are brought into the catalog.

* told of: `sources` (arguments, folders, manifests), `manifests` (written) and `manifest_reading`
* read: `reading` (size and sums of many files at once), `known_sums` (sums that somebody computed already), `summing`
  (which of the two it is for a file, and whether they agree)
* registered: `filler` (a dataset made, filled and closed by one operation that can be resumed), with `lists` (written
  down), `noting` (sums, written down), `contents` (what one dataset holds), `attaching` (a chunk of files), `comparing`
  (what is there beside what was asked for), `describing` (its metadata) and `containers`; `registrar` does it for
  actors and launches
* foreseen: `foreseeing` says what that would do, with `verdicts` on single files, by the same looks in the same order
"""
