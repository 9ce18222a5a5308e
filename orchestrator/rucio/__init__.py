"""Door: the catalog of datasets and files (Rucio, or the embedded one)."""
