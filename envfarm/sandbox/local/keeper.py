"""The keeper: one small process per open provider that forks a holder for each lease (see `holder`).

Started as ``python -I -S keeper.py`` with a socket as standard input. It exists because forking a process of a few
megabytes takes a millisecond, while starting Python takes twenty and forking the driver copies all of its memory.
It ends when the driver's end of the socket is closed, and removes the provider's folder then.
"""

import json
import os
import shutil
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import holder


def main():
    """Fork a holder for each request, until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    requests = socket.socket(fileno=os.dup(0))
    folder = sys.argv[1]
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, holder.MAXIMUM_MESSAGE, 1)
        if not data:
            break
        channel = socket.socket(fileno=descriptors[0])
        try:
            pid = os.fork()
        except OSError as error:
            channel.send(json.dumps({"error": f"fork: {error}", "errno": error.errno}).encode())
            pid = -1
        if pid == 0:
            requests.close()
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            holder.run_holder(channel, json.loads(data))
        channel.close()
    shutil.rmtree(folder, ignore_errors=True)


main()
