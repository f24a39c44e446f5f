"""Latency of HAProxy and the gateway at a fixed rate (RS256, 1,000 tokens in turn).

The load is open: a request is sent when its time has come, whatever became of those before. A
latency counts from the time at which the request was due, so that nothing is left out when a server
makes its clients wait. CPU a request is higher here than at full load, where more is done at each
waking.

"the disk alone" is no proxy: as many requests a second that do nothing but wait for the disk, for
the record of the intent and then for that of the outcome. No gateway with such a trail is faster.
"""

import contextlib

from lab import disk, proxies, report
from lab.machine import Failure
from lab.world import check, metered, wait_until_ready

CONNECTIONS = 64


def add_arguments(parser):
    parser.add_argument("--rate", type=int, default=2000, help="requests a second")
    parser.add_argument("--seconds", type=int, default=10, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)


def run(lab, options):
    signer = lab.signer("RS256")
    tokens = lab.tokens(signer, 1000)
    load = lab.load()
    servers = [proxies.haproxy(lab, signer), proxies.gateway(lab, signer)]
    rounds = {server.name: [] for server in servers}
    directly, waits = [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab.upstream())
        running = [(server, stack.enter_context(lab.proxy(server))) for server in servers]
        wait_until_ready()
        for server in servers:
            check(server, signer)
            load.closed(server.port, tokens, 1)
        for _ in range(options.rounds):
            directly.append((one_round(load, "direct", proxies.DIRECT, tokens, options), None))
            waits.append((wait_for_the_disk(lab, options), None))
            for server, process in running:
                latencies, cpu = metered(process, lambda: one_round(
                    load, server.name, server.port, tokens, options))
                rounds[server.name].append((latencies, cpu * 1e6 / len(latencies)))
    show({"direct": directly, "the disk alone": waits} | rounds, options)


def one_round(load, name, port, tokens, options):
    answers = load.open(port, tokens, options.rate, options.seconds, CONNECTIONS)
    wrong = [answer.status for answer in answers if answer.status != 200]
    if wrong:
        raise Failure(f"{name}: {len(wrong)} of {len(answers)} answers were errors ({set(wrong)})")
    if len(answers) < options.rate * options.seconds:
        raise Failure(f"{name}: only {len(answers) / options.seconds:.0f} a second could be sent")
    return [answer.late + answer.took for answer in answers]


def wait_for_the_disk(lab, options):
    waits = disk.latencies(lab.folder, lab.proxy_cores, options.rate, options.seconds)
    return [wait * 1000 for wait in waits]


def show(rounds, options):
    report.heading(
        f"Latency at {options.rate:,} requests a second",
        f"RS256, 1,000 tokens in turn; {options.rounds} round(s) of {options.seconds} s: the "
        "medians of the rounds, and the most of all. \"direct\" is the upstream without a proxy.",
    )
    report.table(
        ["proxy", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "CPU us/request"],
        [row(name, *zip(*made)) for name, made in rounds.items()],
    )


def row(name, latencies, cpu):
    middles = (report.median(report.percentile(values, percent) for values in latencies)
               for percent in (50, 99, 99.9))
    return [name, *(f"{middle:.2f}" for middle in middles), f"{max(map(max, latencies)):.2f}",
            "" if None in cpu else f"{report.median(cpu):.1f}"]
