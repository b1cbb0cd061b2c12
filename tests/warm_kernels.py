"""Kernels that start with what every notebook imports already imported.

Torch and transformers cost a kernel seven to fifteen seconds of processor, whatever its cells do.
Here one process imports them, and each kernel is a fork of it. `python warm_kernels.py serve
SOCKET` is that process; `python warm_kernels.py SOCKET CONNECTION_FILE` is what Jupyter starts
for a kernel: it asks for a fork and stands for it, passing signals on until it ends.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "python3"  # what notebooks name
_REQUEST = 2**20  # bytes that an environment may take


@contextmanager
def forking(folder: Path) -> Iterator[None]:
    """Python's kernel for Jupyter, in a folder that JUPYTER_PATH has to name."""
    address = folder / "socket"
    spec = folder / "kernels" / NAME / "kernel.json"
    spec.parent.mkdir(parents=True)
    # Without site-packages Python starts in a fiftieth of a second.
    start = [sys.executable, "-IS", __file__, str(address), "{connection_file}"]
    spec.write_text(json.dumps({"argv": start, "display_name": "Python 3", "language": "python"}))
    server = subprocess.Popen([sys.executable, __file__, "serve", str(address)])
    try:
        while not address.exists():
            assert server.poll() is None, "the process that imports for all kernels has ended"
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def serve(address: str) -> None:
    """Import, then fork a kernel for each that asks."""
    import ipykernel.kernelapp
    import pandas
    import plotly.express
    import torch
    import transformers.modeling_utils

    import nbllm

    used = (ipykernel, pandas, plotly, torch, transformers, nbllm.load, nbllm.inspect)
    assert all(used)
    assert threading.active_count() == 1, "a fork has only the thread that forks"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address + ".new")
        listening.listen()
        os.rename(address + ".new", address)  # there once it answers
        while True:
            asking, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _become_kernel(asking)
            asking.close()


def _become_kernel(asking: socket.socket) -> None:
    from ipykernel.kernelapp import IPKernelApp

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, files, _, _ = socket.recv_fds(asking, _REQUEST, 2)
    told = json.loads(request)
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file, number)
    os.setsid()
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    asking.sendall(os.getpid().to_bytes(8))

    def end_with_the_other() -> None:
        asking.recv(1)
        os._exit(1)

    threading.Thread(target=end_with_the_other, daemon=True).start()
    sys.argv = ["ipykernel", "-f", told["connection_file"]]
    sys.orig_argv = list(sys.argv)
    sys.path[0] = ""
    IPKernelApp.launch_instance()
    os._exit(0)


def stand_for_kernel(address: str, connection_file: str) -> None:
    """Ask for a kernel, and be there for as long as it is."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = {
            "connection_file": connection_file,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
        socket.send_fds(connection, [json.dumps(request).encode()], [1, 2])
        kernel = int.from_bytes(connection.recv(8))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(kernel, number))
        connection.recv(1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        stand_for_kernel(*sys.argv[1:])
