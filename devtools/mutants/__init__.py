"""Planted faults: each breaks one promise in one place, and a named test must turn red for it.

A test that nobody has seen fail proves nothing. Every fault is an edit of one file, made in a copy of the checkout; the
tests named beside it pass on the copy as it is and fail on the copy with the fault, or `make mutants` fails.
"""
