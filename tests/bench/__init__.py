"""How fast it is, on this machine: `make bench`, or `python -m tests.bench --quick ingest`.

Figures are printed and never asserted, since they depend on the machine and on whatever else runs there. What is
compared was measured in one run, turn by turn, and of each the median counts: read the ratios, not the rates.
"""
