"""Time from the gateway's exec to its first `/readyz` of 200.

The trail is there from a start before, as after an update; the first start, which makes trail and
signing key, is shown by itself.
"""

import http.client
import time

from lab import proxies, report
from lab.machine import Failure, Process


def add_arguments(parser):
    parser.add_argument("--starts", type=int, default=20)


def run(lab, options):
    proxy = proxies.gateway(lab, lab.signer("RS256"))
    times = [one_start(lab, proxy) for _ in range(options.starts + 1)]
    first, later = times[0], times[1:]
    report.heading("From exec to ready")
    report.table(["starts", "median ms", "least ms", "most ms", "first start ms"], [[
        options.starts, f"{report.median(later):.1f}", f"{min(later):.1f}", f"{max(later):.1f}",
        f"{first:.1f}",
    ]])


def one_start(lab, proxy):
    begin = time.monotonic()
    process = Process("cms-gateway", proxy.command, lab.proxy_cores, lab.folder / "start.log")
    try:
        while not is_ready():
            if time.monotonic() - begin > 20:
                raise Failure(f"not ready after 20 s:\n{process.log.read_text()}")
            time.sleep(0.0005)
        return (time.monotonic() - begin) * 1000
    finally:
        process.stop()


def is_ready():
    connection = http.client.HTTPConnection("127.0.0.1", proxies.ADMIN, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
