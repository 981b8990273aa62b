"""Others' drafts and engines: readers, exports, the doctor, clients of running servers."""
