"""Resident memory of HAProxy and the gateway: at rest, and with idle connections.

Each connection has had one good answer and stays open. What the kernel keeps for a connection is
in no process's memory.
"""

import contextlib
import select
import socket
import time

from lab import proxies, report
from lab.load import PATH
from lab.machine import Failure, open_file_limit
from lab.world import SAMPLE, check, wait_until_ready


def add_arguments(parser):
    parser.add_argument("--connections", type=int, default=10_000)


def run(lab, options):
    signer = lab.signer("RS256")
    limits = f'connections = {options.connections + 100}\nidle_timeout = "5m"'
    rows = []
    for proxy in (proxies.haproxy(lab, signer), proxies.gateway(lab, signer, limits=limits)):
        with lab.upstream(), lab.proxy(proxy) as process:
            rows.append(measure(lab, proxy, process, signer, options.connections))
    report.heading(f"Memory for {options.connections:,} idle connections")
    report.table(["proxy", "MiB after the start", "with the connections", "KiB a connection",
                  "open files", "after they closed"], rows)


def measure(lab, proxy, process, signer, count):
    if proxy.port == proxies.GATEWAY:
        wait_until_ready()
    time.sleep(1)
    at_rest = process.memory()
    check(proxy, signer)
    request = raw_request(SAMPLE, signer.token())
    with contextlib.ExitStack() as stack:
        try:
            connections = [stack.enter_context(connected(proxy, request)) for _ in range(count)]
        except Failure as failure:
            files = f"it has {process.open_files():,} of {open_file_limit():,} files open"
            raise Failure(f"{failure}; {files}") from failure
        time.sleep(3)
        closed = count_closed(connections)
        if closed:
            raise Failure(f"{proxy.name} closed {closed} of {count} connections")
        with_them, files = process.memory(), process.open_files()
    time.sleep(3)
    each = (with_them - at_rest) * 1024 / count
    return [proxy.name, f"{at_rest:.1f}", f"{with_them:.1f}", f"{each:.1f}", f"{files:,}",
            f"{process.memory():.1f}"]


def raw_request(change, token):
    return (f"PUT {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(change.body)}\r\n\r\n"
            f"{change.body}").encode()


def connected(proxy, request):
    """A connection that has had its answer."""
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    try:
        connection.sendall(request)
        answer = connection.recv(65536)
        # An answer is short, and comes at once or in two pieces.
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    except OSError as error:
        connection.close()
        raise Failure(f"{proxy.name} broke a connection: {error}") from error
    if not answer.startswith(b"HTTP/1.1 200 "):
        connection.close()
        raise Failure(f"{proxy.name} answered {answer[:300]!r}")
    return connection


def count_closed(connections):
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(0))
