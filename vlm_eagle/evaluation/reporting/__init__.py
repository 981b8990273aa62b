"""The report: result files in, one HTML page out, and a PNG of one sample.

inputs -> (labels, figures -> charts -> svg, misses, samples -> thumbnails) -> page
"""
