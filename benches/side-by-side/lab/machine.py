"""Processes and what the kernel says of them."""

import ctypes
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """Why a measurement is not worth anything."""


class Process:
    """A server on some cores, with its log."""

    def __init__(self, name, command, cores, log):
        self.name, self.log = name, log
        with open(log, "w") as output:
            self._child = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, preexec_fn=on(cores),
            )
        self.pid = self._child.pid

    def stop(self):
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(20)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def wait_for(self, port, seconds=20):
        end = time.monotonic() + seconds
        while not listens(port):
            if self._child.poll() is not None or time.monotonic() > end:
                raise Failure(f"{self.name} does not listen on {port}:\n{self.log.read_text()}")
            time.sleep(0.02)

    def tree(self):
        """Its process and their children's, which nginx has."""
        found, rest = [], [self.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            for task in tasks(pid):
                children = read(f"/proc/{pid}/task/{task}/children")
                rest += [int(child) for child in children.split()]
        return found

    def cpu(self):
        """Nanoseconds on a CPU, by thread, from the scheduler's own account."""
        used = {}
        for pid in self.tree():
            for task in tasks(pid):
                text = read(f"/proc/{pid}/task/{task}/schedstat")
                if text:
                    used[task] = int(text.split()[0])
        return used

    def memory(self, field="VmRSS"):
        """MiB that are resident now, or were at the most (`VmHWM`)."""
        statuses = [read(f"/proc/{pid}/status") for pid in self.tree()]
        found = [re.search(rf"{field}:\s+(\d+)", status) for status in statuses]
        return sum(int(match[1]) for match in found if match) / 1024

    def open_files(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.tree())


def on(cores):
    """What a new process does first: it stays on these cores, and ends when this program does."""
    libc = ctypes.CDLL(None)

    def prepare():
        os.sched_setaffinity(0, cores)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare


def spent(before, after):
    """Seconds between two accounts. A thread that ended between them is left out."""
    return sum(used - before.get(task, 0) for task, used in after.items()) / 1e9


def tasks(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def raise_open_files(wanted):
    """As many files as this account may open, which the servers inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, wanted), max(hard, wanted)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_file_limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def busy_share(seconds=0.5):
    """The part of all cores' time in which they are not idle."""
    def ticks():
        user, nice, system, idle, wait, *others = map(int, read("/proc/stat").split()[1:9])
        return user + nice + system + sum(others), idle + wait

    busy, idle = ticks()
    time.sleep(seconds)
    busy, idle = (after - before for after, before in zip(ticks(), (busy, idle)))
    return busy / max(1, busy + idle)


def description():
    model = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    name = model[1] if model else platform.machine()
    return f"{name}, {os.cpu_count()} cores, Linux {platform.release()}"
