"""What a worker prints: read as it comes, so that it never blocks, and only its end is kept."""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import Connection

from elattn_bench.units import Bytes, Seconds

KEPT: Bytes = 16 * 1024  # the end of it: a crash's last words, not the megabytes before
DRAIN: Seconds = 1.0  # for the reader to see the end after the process has died


class OutputTail:
    """Reads a pipe to its end in a thread and keeps the last of it."""

    def __init__(self, reader: Connection) -> None:
        self._reader = reader
        self._tail = b""
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """The end of what was printed, once the process is gone."""
        self._thread.join(DRAIN)
        return self._tail.decode("utf-8", errors="replace")

    def _drain(self) -> None:
        with self._reader as reader:
            while piece := os.read(reader.fileno(), KEPT):
                self._tail = (self._tail + piece)[-KEPT:]
