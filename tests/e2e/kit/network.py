"""Lets the calling thread see the network of another process, and come back.

Only in the cluster's network namespace have the API server, Services and pods addresses. Threads and processes
that are started while inside begin there, so HTTP clients, kubectl and helm need nothing special.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Moves the calling thread into the network namespace of process `pid` for the `with` block.

    Raises OSError: no such process, or not root.
    """
    with open("/proc/thread-self/ns/net", "rb") as own, open(f"/proc/{pid}/ns/net", "rb") as theirs:
        _set_namespace(theirs.fileno())
        try:
            yield
        finally:
            _set_namespace(own.fileno())


def _set_namespace(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:  # os.setns exists from Python 3.12 on
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")
