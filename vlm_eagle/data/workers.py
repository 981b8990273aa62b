"""What worker processes of a DataLoader must know."""

import signal


def ignore_interrupts(worker: int) -> None:
    """For a DataLoader's worker processes: Ctrl-C reaches them too, and what to do about it is up to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
