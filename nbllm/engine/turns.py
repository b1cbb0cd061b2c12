"""One pass through a network at a time: runs in the background take turns with the notebook.

A scorer hangs a hook on its network for as long as a pass lasts, and two passes at once would
not be faster: one already takes the whole device. A tokenizer is used in turns too.
"""

from __future__ import annotations

from threading import RLock

__all__ = ["turn"]

turn = RLock()
