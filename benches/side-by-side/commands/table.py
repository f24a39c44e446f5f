"""CPU a request, requests a second, latency and memory of every proxy.

Each row is its own run: every proxy is measured once in a round, in turn, and the medians of the
rounds are shown. Peak memory is the highest since the proxy's start.
"""

import argparse
import contextlib
from dataclasses import dataclass, replace

from lab import proxies, report
from lab.machine import Failure
from lab.world import check, metered, metric, wait_until_ready


@dataclass(frozen=True)
class Row:
    title: str
    algorithm: str
    tokens: int = 1
    every_one_new: bool = False


# So many different tokens, of which the first ones are for warming up.
MANY, WARM_UP = 100_000, 20_000
ROWS = {
    "rs256-1": Row("RS256, 1 token", "RS256"),
    "rs256-1000": Row("RS256, 1,000 tokens in turn", "RS256", 1000),
    "es256-1": Row("ES256, 1 token", "ES256"),
    "new": Row("RS256, every token new", "RS256", MANY, every_one_new=True),
}


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: int
    warm_up: int
    connections: int


@dataclass(frozen=True)
class Figures:
    cpu_us: float
    result: object
    peak: float


def add_arguments(parser):
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rows", type=rows, default=list(ROWS),
                        help=f"some of {','.join(ROWS)}; all unless said otherwise")


def run(lab, options):
    connections = options.connections
    plan = Plan(1, 2, 1, connections) if options.quick else Plan(3, 5, 1, connections)
    for name in options.rows:
        show(lab, ROWS[name], plan, measure(lab, ROWS[name], plan))


def rows(text):
    names = text.split(",")
    if unknown := set(names) - set(ROWS):
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(sorted(unknown))}")
    return names


def measure(lab, row, plan):
    """The figures of each round, by proxy."""
    signer = lab.signer(row.algorithm)
    tokens = lab.tokens(signer, row.tokens)
    load, connections = lab.load(), plan.connections
    figures = {}
    with lab.upstream():
        if not row.every_one_new:
            with contextlib.ExitStack() as stack:
                running = [(proxy, stack.enter_context(started(lab, proxy, signer)))
                           for proxy in all_proxies(lab, signer)]
                for proxy, process in running:
                    load.closed(proxy.port, tokens, plan.warm_up, connections)
                for _ in range(plan.rounds):
                    for proxy, process in running:
                        figures.setdefault(proxy.name, []).append(
                            figure(load, proxy, process, tokens, plan.seconds, connections))
            return figures
        for _ in range(plan.rounds):
            # A proxy that is started anew remembers no token.
            for proxy in all_proxies(lab, signer):
                with started(lab, proxy, signer) as process:
                    warm_up = load.closed(
                        proxy.port, replace(tokens, count=WARM_UP), plan.warm_up, connections)
                    rest = replace(tokens, first=WARM_UP, count=MANY - WARM_UP)
                    # No longer than the tokens last.
                    seconds = max(1, min(plan.seconds, int(rest.count / warm_up.rate / 1.2)))
                    figures.setdefault(proxy.name, []).append(
                        new_figure(load, proxy, process, rest, seconds, connections))
    return figures


def all_proxies(lab, signer):
    return [*proxies.peers(lab, signer), proxies.gateway(lab, signer)]


@contextlib.contextmanager
def started(lab, proxy, signer):
    """The proxy's process, or none where the load goes to the upstream itself."""
    if not proxy.command:
        yield None
        return
    with lab.proxy(proxy) as process:
        if proxy.port == proxies.GATEWAY:
            wait_until_ready()
        check(proxy, signer)
        yield process


def figure(load, proxy, process, *of_load):
    if process is None:
        return Figures(0, load.closed(proxy.port, *of_load), 0)
    result, cpu = metered(process, lambda: load.closed(proxy.port, *of_load))
    return Figures(cpu * 1e6 / result.requests, result, process.memory("VmHWM"))


def new_figure(load, proxy, process, tokens, *of_load):
    """As `figure`, and surely no token was seen before."""
    is_gateway = proxy.port == proxies.GATEWAY
    before = metric("token_cache_hits_total") if is_gateway else 0
    made = figure(load, proxy, process, tokens, *of_load)
    if is_gateway and metric("token_cache_hits_total") != before:
        raise Failure("a token that should be new was remembered")
    if proxy.authenticates and made.result.requests > tokens.count:
        raise Failure(f"{proxy.name}: {made.result.requests} requests, {tokens.count} tokens")
    return made


def show(lab, row, plan, figures):
    def middle(name, value):
        return report.median(value(made) for made in figures[name])

    base = middle("HAProxy", lambda made: made.cpu_us)
    rows = []
    for name in figures:
        cpu = [made.cpu_us for made in figures[name]]
        has_process = max(cpu) > 0
        rows.append([
            name,
            f"{report.median(cpu):.1f} ({min(cpu):.1f} to {max(cpu):.1f})" if has_process else "",
            f"{report.median(cpu) / base:.2f}" if has_process else "",
            f"{middle(name, lambda made: made.result.rate):,.0f}",
            f"{middle(name, lambda made: made.result.p50):.2f}",
            f"{middle(name, lambda made: made.result.p99):.2f}",
            f"{max(made.peak for made in figures[name]):.1f}" if has_process else "",
        ])
    report.heading(row.title, f"{plan.connections} connections, {plan.rounds} round(s) of "
                              f"{plan.seconds} s; medians.")
    report.table(["proxy", "CPU us/request", "of HAProxy's", "requests/s", "p50 ms", "p99 ms",
                  "peak MiB"], rows)
