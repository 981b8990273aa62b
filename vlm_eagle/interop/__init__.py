"""Traffic with other trainers and with serving engines: import, export, model cards."""
