"""Benchmarks, acceptance lengths, speeds and the report. Below `commands`, above everything that is measured.

Parts, lowest first; each imports only from those before it: `benchmarks`, `lookup`, `methods`, `scores`, `timing`, `reporting`.
"""
