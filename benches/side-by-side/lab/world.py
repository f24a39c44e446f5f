"""A place for measurements: servers that are started, checked and surely ended."""

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.request

from . import proxies
from .load import Change, Load, Tokens, put
from .machine import Failure, Process, busy_share, description, listens, raise_open_files, spent
from .report import command
from .tokens import Signer, one_token

SAMPLE = Change(
    '{"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],'
    '"unassignedUserIds":["exe_gs","madhur1"]}',
    '{"campaignLeadId":1,"assignedCampaignUserIds":[1],"unassignedCampaignUserIds":[3817,3802],'
    '"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],'
    '"unassignedUserIds":["madhur1","exe_gs"]}',
)


class Lab:
    """The tools, the cores, and every process that runs on them."""

    def __init__(self, tools, gateway, proxy_cores, load_cores):
        self.tools, self.gateway = tools, gateway.resolve()
        self.proxy_cores, self.load_cores = proxy_cores, load_cores
        self.folder = tools / "run"
        raise_open_files(65536)

    def __enter__(self):
        if not self.gateway.exists():
            raise SystemExit(f"{self.gateway} is not there: cargo build --release, or --gateway")
        for port in proxies.PORTS:
            if listens(port):
                raise SystemExit(f"port {port} is taken; does another run go on?")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        version = subprocess.run([self.gateway, "--version"], capture_output=True, text=True)
        print(f"`{command()}`\n\n{description()}; {version.stdout.strip()}", flush=True)
        warn_of_neighbours()
        return self

    def __exit__(self, *_):
        warn_of_neighbours()
        # Trails are long.
        shutil.rmtree(self.folder, ignore_errors=True)

    def signer(self, algorithm):
        return Signer(self.tools / "keys", algorithm)

    def tokens(self, signer, count=1):
        if count == 1:
            return Tokens(one_token(self.folder, signer.token()))
        return Tokens(signer.tokens(count), count)

    def load(self, change=SAMPLE, cores=None):
        return Load(self.tools, self.folder, cores or self.load_cores, change)

    @contextlib.contextmanager
    def upstream(self, change=SAMPLE, cores=None):
        """The CMS's part: nginx, which asks for the Basic credential and gives the one answer."""
        config = proxies.upstream(self.folder, change.answer)
        with self.process("upstream", ["nginx", "-c", config], proxies.UPSTREAM,
                          cores or self.load_cores) as process:
            yield process

    @contextlib.contextmanager
    def proxy(self, proxy, cores=None):
        with self.process(proxy.name, proxy.command, proxy.port,
                          cores or self.proxy_cores) as process:
            yield process

    @contextlib.contextmanager
    def process(self, name, command, port, cores):
        process = Process(name, command, cores, self.folder / f"{name}.log")
        with contextlib.ExitStack() as stack:
            stack.callback(process.stop)
            process.wait_for(port)
            yield process

    @contextlib.contextmanager
    def serving(self, signer, change=SAMPLE, cores=None, load_cores=None, **settings):
        """The gateway with an upstream, on a trail that is new."""
        proxy = proxies.gateway(self, signer, **settings)
        with self.upstream(change, load_cores), self.proxy(proxy, cores) as process:
            wait_until_ready()
            check(proxy, signer, change)
            yield process


def warn_of_neighbours():
    """Nothing of ours runs now, so nothing should."""
    share = busy_share()
    if share > 0.05:
        print(f"\n**Something else keeps {share:.0%} of the machine busy.**", flush=True)


def metered(process, work):
    """What `work` gives, and the seconds of CPU that the process took meanwhile."""
    before = process.cpu()
    result = work()
    return result, spent(before, process.cpu())


def check(proxy, signer, change=SAMPLE):
    """The proxy does the work: it lets the good token through and refuses the bad ones."""
    good = signer.token()
    status, body = put(proxy.port, good, change)
    if status != 200 or json.loads(body) != json.loads(change.answer):
        raise Failure(f"{proxy.name} answers a good request with {status} {body[:300]}")
    if not proxy.authenticates:
        return
    head, claims, signature = good.split(".")
    forged = f"{head}.{claims}.{signature[:-8]}{signature[:8]}"
    bad = {
        "no token": (None, {401}),
        "a forged token": (forged, {401}),
        "an expired token": (signer.token(exp=int(time.time()) - 3600), {401}),
        "a token of another issuer": (signer.token(iss="https://other.example/"), {401}),
        # Envoy knows the caller then, and forbids it.
        "a token for another audience": (signer.token(aud="other"), {401, 403}),
        "a token without the role": (signer.token(roles=["visitor"]), {403}),
    }
    for name, (token, right) in bad.items():
        status, _ = put(proxy.port, token, change)
        if status not in right:
            raise Failure(f"{proxy.name} answers {name} with {status}")


def wait_until_ready(seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            return get("/readyz")
        except OSError as error:
            if time.monotonic() > end:
                raise Failure(f"the gateway does not become ready: {error}") from error
            time.sleep(0.02)


def get(path):
    """A page of the gateway's admin listener."""
    url = f"http://127.0.0.1:{proxies.ADMIN}{path}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def metric(name):
    """The sum of all of a metric's series."""
    lines = re.findall(rf"^cms_gateway_{name}(?:{{.*}})? (\S+)$", get("/metrics"), re.MULTILINE)
    return sum(map(float, lines))
