"""All jobs by name, what is asked of them, and what killed minders leave behind."""

import contextlib
import errno
import hashlib
import os
import resource
import signal

import system
import wire
from jobs import Job, Plan, Wait

JOBS_MOST = 4096
INPUT_HELD_MOST = 1 << 20


class Table:
    """All jobs by name."""

    def __init__(self, loop):
        """Begin without any."""
        self.loop = loop
        self.named = {}
        self.all = set()
        self.sweeping = False
        self.kills = system.MemoryKills()
        self.open_files_soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def remove(self, job):
        """Take a job out."""
        self.all.discard(job)
        if self.named.get(job.name) is job:
            del self.named[job.name]

    def perform(self, to, request):
        """Perform a request about jobs."""
        if to.kind == wire.START:
            self.start(to, request)
        elif to.kind == wire.FORGET:
            for name in request.each(wire.JOB):
                job = self.named.pop(name, None)
                if job is not None:
                    job.forget()
            to.reply(wire.OK, [])
        elif to.kind == wire.JOBS:
            rows = [(name, int(job.report is not None)) for name, job in self.named.items()]
            entries = [wire.join_fields([(wire.JOB, name), (wire.STATE, state)]) for name, state in rows]
            to.reply(wire.OK, [(wire.ENTRY, entry) for entry in entries])
        elif request.get(wire.JOB) not in self.named:
            to.plain(wire.NO_SUCH_JOB, "there is no such job")
        else:
            self.perform_on(self.named[request.get(wire.JOB)], to, request)

    def perform_on(self, job, to, request):
        """Perform a request about one job."""
        if to.kind == wire.STDIN:
            self.feed(job, to, request)
        elif to.kind == wire.SIGNAL:
            if request.number(wire.SERIAL) > job.serial:
                job.serial = request.number(wire.SERIAL)
                job.order(request.number(wire.F_SIGNAL), bool(request.number(wire.TREE)))
            to.reply(wire.OK, [])
        elif to.kind == wire.READ and request.number(wire.DESCRIPTOR) not in job.outputs:
            to.plain(wire.MALFORMED, "the job has no such stream")
        else:
            self.wait(job, to, request)

    def wait(self, job, to, request):
        """Answer when there is an answer."""
        deadline = None if to.kind == wire.STDIN else system.now_ms() + request.number(wire.WAIT_MS)
        if not job.wait(Wait(to, request, deadline)):
            to.plain(wire.NO_ROOM, "too many wait for this job")

    def start(self, to, request):
        """Start a job, or find it."""
        digest = hashlib.sha256(to.fields).digest()
        job = self.named.get(request.get(wire.JOB))
        if job is not None and job.digest != digest:
            to.plain(wire.CONFLICT, "the job cannot be started")
            return
        if job is None:
            if len(self.all) >= JOBS_MOST:
                to.plain(wire.NO_ROOM, "the job cannot be started")
                return
            plan = Plan(request, self.open_files_soft)
            job = Job(self, request.get(wire.JOB), digest)
            try:
                job.start(plan)
            except OSError as error:
                to.error(error.errno or errno.EIO)
                return
            self.named[job.name] = job
            self.all.add(job)
            job.feed(request.get(wire.F_DATA), bool(request.number(wire.F_END)))
        self.wait(job, to, request)

    def feed(self, job, to, request):
        """Take more standard input."""
        data, offset = request.get(wire.F_DATA), request.number(wire.OFFSET)
        if offset > job.input_taken:
            to.plain(wire.CONFLICT, "input is missing before this offset")
            return
        data = data[job.input_taken - offset :]
        if data and len(job.input_left) >= INPUT_HELD_MOST:
            to.plain(wire.NO_ROOM, "earlier input is not taken yet")
            return
        job.feed(data, bool(request.number(wire.F_END)))
        self.wait(job, to, request)

    def forget_connection(self, connection):
        """Drop what a connection waits for."""
        for job in self.all:
            job.waits = [wait for wait in job.waits if wait.to.connection is not connection]

    def tend(self):
        """Answer waits whose time is up, end what killed minders left; returns when to be called again."""
        if self.sweeping:
            self.sweep()
        now, soonest = system.now_ms(), None
        for job in list(self.all):
            deadlines = [wait.deadline_ms for wait in job.waits if wait.deadline_ms is not None]
            if deadlines and min(deadlines) <= now:
                job.answer()
            elif deadlines:
                soonest = min(deadlines) if soonest is None else min(soonest, *deadlines)
        return now + 10 if self.sweeping else soonest

    def sweep(self):
        """End children that are no minders: they were a job's whose minder was killed."""
        self.sweeping = False
        minders = {job.minder for job in self.all}
        me = os.getpid()
        for pid, parent in system.parents().items():
            if parent == me and pid not in minders:
                system.send(pid, signal.SIGSTOP)
                system.kill_tree(pid)
                system.send(pid, signal.SIGKILL)
                self.sweeping = True

    def reap(self):
        """Wait for children that became ours; minders are waited for when their socket ends."""
        if not hasattr(os, "waitid"):
            return
        minders = {job.minder for job in self.all}
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in minders:
                    return
                os.waitpid(ended.si_pid, 0)

    def end_all(self):
        """Kill everything."""
        for job in self.all:
            job.order(signal.SIGKILL, True)
        self.sweeping = True

    def all_gone(self):
        """Return whether nothing is left."""
        return not self.sweeping and all(job.control is None for job in self.all)
