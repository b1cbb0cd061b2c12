"""Kernels that start with what every notebook imports already imported.

Torch and transformers cost a kernel seven to fifteen seconds of processor, whatever its cells do.
Here one process imports them, and each kernel is a fork of it. `python warm_kernels.py serve
SOCKET` is that process; `python warm_kernels.py SOCKET -f CONNECTION_FILE ...` is what Jupyter
starts for a kernel: it asks for a fork and stands for it, passing signals on until it ends.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

_NAME = "python3"  # what notebooks name
_REQUEST = 2**20  # bytes that an environment may take


def warm_kernels(folder: Path, needed_by: int) -> None:
    """Put Python's kernel, for Jupyter, into a folder that JUPYTER_PATH has to name.

    Several processes may ask for the same folder. The process that imports for all kernels ends
    with the one that is `needed_by`, of that number.
    """
    from filelock import FileLock

    address = folder / "socket"
    spec = folder / "kernels" / _NAME / "kernel.json"
    # Without site-packages Python starts in a fiftieth of a second.
    start = [sys.executable, "-IS", __file__, str(address), "-f", "{connection_file}"]
    with FileLock(folder / "lock"):
        if address.exists():
            return
        spec.parent.mkdir(parents=True)
        spec.write_text(
            json.dumps({"argv": start, "display_name": "Python 3", "language": "python"})
        )
        subprocess.run(
            [sys.executable, __file__, "serve", str(address), str(needed_by)], check=True
        )


def serve(address: str, needed_by: int) -> None:
    """Import, and leave a process that forks a kernel for each that asks, while it is needed."""
    import ipykernel.kernelapp
    import nbformat
    import pandas
    import plotly.express
    import psutil

    import nbllm

    assert all((ipykernel, nbformat, pandas, nbllm.load, nbllm.inspect))
    plotly.express.bar(x=[0], y=[0]).to_json()  # the first chart imports as much again
    assert threading.active_count() == 1, "a fork has only the thread that forks"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        if os.fork() > 0:
            return  # to who waits until there is one
        os.setsid()
        listening.settimeout(1)
        while psutil.pid_exists(needed_by):
            try:
                asking, _ = listening.accept()
            except TimeoutError:
                continue
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
    sys.argv = ["ipykernel", *told["arguments"]]
    sys.orig_argv = list(sys.argv)
    sys.path[0] = ""
    IPKernelApp.launch_instance()
    os._exit(0)


def stand_for_kernel(address: str, arguments: list[str]) -> None:
    """Ask for a kernel, and be there for as long as it is."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = {
            "arguments": arguments,
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
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        stand_for_kernel(sys.argv[1], sys.argv[2:])
