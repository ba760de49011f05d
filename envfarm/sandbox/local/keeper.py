"""The keeper: one small process per open provider that has a holder ready for each lease (see `holder`).

Started as ``python -I -S keeper.py FOLDER`` with a socket as standard input. It exists because forking a process of a
few megabytes takes a millisecond, while starting Python takes twenty and forking the driver copies all of its memory.
It ends when the driver's end of the socket is closed, waits for its holders, and removes the provider's folder then.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import holder

GRACE_SECONDS = 30.0
PR_SET_CHILD_SUBREAPER = 36


def start_spare(requests, box, *, networked=False):
    """Fork a holder that waits for its lease, and return the socket to hand it over; None where nothing forks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
    except OSError as error:
        os.write(2, f"envfarm: no spare sandbox: {error}\n".encode())
        pid = -1
    if pid == 0:
        requests.close()
        ours.close()
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        holder.run_holder(theirs, box, networked=networked)
    theirs.close()
    if pid < 0:
        ours.close()
        return None
    return ours


def hand_over(spare, data, sockets):
    """Give a lease with its sockets to the spare holder; whether there was one alive."""
    if spare is None:
        return False
    try:
        socket.send_fds(spare, [data], sockets)
    except OSError:
        return False
    finally:
        spare.close()
    return True


def wait_for_holders():
    """Wait until every holder has ended; those that do not are killed."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended == 0:
            time.sleep(0.002)
    holder.kill_orphans(set())


def main():
    """Give a holder to each request, until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    holder.check(holder.libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")  # a holder is a grandchild
    requests = socket.socket(fileno=os.dup(0))
    folder = sys.argv[1]
    box = f"{folder}/box"
    spare = start_spare(requests, box)
    while True:
        data, descriptors = holder.receive(requests)
        if not data:
            break
        networked = json.loads(data)["networked"]
        if networked:
            hand_over(start_spare(requests, box, networked=True), data, descriptors)
        elif not hand_over(spare, data, descriptors):
            hand_over(start_spare(requests, box), data, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if not networked:
            spare = start_spare(requests, box)
    if spare is not None:
        spare.close()
    with contextlib.suppress(OSError):
        requests.close()
    wait_for_holders()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
