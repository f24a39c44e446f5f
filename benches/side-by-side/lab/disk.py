"""The disk by itself: how long a trail's records wait for it, with no gateway around them."""

import contextlib
import os
import subprocess
import time

# Bytes of a record of the usual request.
RECORD = 864
# Set aside as for a segment of the trail.
ROOM = 64 << 20


def latencies(folder, cores, rate, seconds):
    """Seconds of requests that come evenly and do nothing but wait for the disk, twice: the second
    record of a request is there when its first is durable. What is there is flushed together."""
    count, waits, once, twice = int(rate * seconds), [], 0, 0
    with on(cores), segment(folder) as flush:
        begin = time.monotonic()
        while twice < count:
            come = min(count, int((time.monotonic() - begin) * rate) + 1)
            if come > once or once > twice:
                flush(come - once + once - twice)
                now = time.monotonic()
                waits += [now - begin - request / rate for request in range(twice, once)]
                once, twice = come, once
    return waits


@contextlib.contextmanager
def segment(folder):
    """What appends records to a new file and makes them durable."""
    path = folder / "records"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        # As the gateway, it does without where the file system can't.
        subprocess.run(["fallocate", "--keep-size", "--length", str(ROOM), path], check=False)

        def flush(records):
            os.write(file, b"x" * (RECORD * records))
            os.fdatasync(file)

        yield flush
    finally:
        os.close(file)
        path.unlink()


@contextlib.contextmanager
def on(cores):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
