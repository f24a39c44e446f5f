"""The load: wrk as fast as answers come, `paced` at a fixed rate, and single calls."""

import http.client
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .machine import Failure, on

PATH = "/cms/configuration/voice/campaignLeadUserMapping"


@dataclass(frozen=True)
class Change:
    """What every request asks for, and the right answer to it."""

    body: str
    answer: str


@dataclass(frozen=True)
class Tokens:
    """Tokens that are sent in turn, from a file with one a line."""

    file: Path
    count: int = 1
    first: int = 0


@dataclass(frozen=True)
class Result:
    """Latencies are in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self):
        return self.requests / self.seconds


@dataclass(frozen=True)
class Answer:
    """Its status, 0 where the connection ended without one; how late the request was sent; and how
    long it took from then, both in milliseconds."""

    status: int
    late: float
    took: float


def put(port, token, change):
    """One call on a connection of its own; its status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("PUT", PATH, change.body, headers)
    with connection.getresponse() as answer:
        return answer.status, answer.read().decode()


class Load:
    """Requests for one change, sent from some cores."""

    def __init__(self, tools, folder, cores, change):
        self.tools, self.cores = tools, cores
        self._body = folder / "body.json"
        self._body.write_text(change.body)

    def closed(self, port, tokens, seconds, connections=32):
        """As fast as it is answered, each connection waiting for its answers."""
        return self.result(self.start_closed(port, tokens, seconds, connections))

    def start_closed(self, port, tokens, seconds, connections=32):
        script = Path(__file__).with_name("load.lua")
        return self._start([
            "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script,
            f"http://127.0.0.1:{port}", "--", tokens.file, tokens.first, tokens.count, PATH,
            self._body,
        ])

    def result(self, wrk):
        output = finish(wrk)
        found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
        if not found:
            raise Failure(f"wrk said:\n{output}")
        requests, micros, refused, broken, p50, p99 = map(int, found.groups())
        if refused or broken or not requests:
            raise Failure(
                f"of {requests} requests {refused} were answered with an error, and {broken} times "
                "a connection broke or an answer did not come"
            )
        return Result(requests, micros / 1e6, p50 / 1e3, p99 / 1e3)

    def open(self, port, tokens, rate, seconds, connections):
        """At a fixed rate, whatever becomes of the requests: an `Answer` for each that was sent."""
        output = finish(self._start([
            self.tools / "paced", port, PATH, tokens.file, self._body, rate, seconds, connections,
        ]))
        try:
            lines = (map(int, line.split()) for line in output.splitlines())
            return [Answer(status, late / 1e3, took / 1e3) for status, late, took in lines]
        except ValueError as error:
            raise Failure(f"paced said:\n{output[-1000:]}") from error

    def _start(self, command):
        return subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            preexec_fn=on(self.cores),
        )


def finish(process):
    """What it printed; it is ended where the wait for it is."""
    with process:
        try:
            return process.communicate()[0]
        except BaseException:
            process.kill()
            raise
