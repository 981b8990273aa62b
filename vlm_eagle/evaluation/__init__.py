"""Benchmarks, acceptance lengths, speeds and the report. Below `commands`, above everything that is measured.

Parts, lowest first; each imports only from those before it: `checked_json`, `result_schema`, `benchmarks`, `lookup`,
`methods`, `scores`, `timing`, `reporting`.
"""
