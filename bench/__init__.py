"""How fast, and at what cost: `make bench` measures the services as the processes that they are, and checks every row.

Figures are for reading; only a ratio inside one run, or a row that is missing, fails it.
"""
