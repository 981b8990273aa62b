"""Draft directories in the layouts that exist: read, checked, written."""
