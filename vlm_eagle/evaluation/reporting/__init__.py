"""The report: result files in, one HTML page and its figures out.

read -> records -> (tables, figures -> svg | png, samples) -> page
"""
