"""Memory, open files and CPU a request of the gateway under full load for minutes.

RS256, 1,000 tokens in turn. The trail keeps its newest 2 GiB, so that the disk does not fill. Each
interval is a line of `target/bench-tools/soak.csv`.
"""

import csv
import time

from lab import proxies, report
from lab.machine import spent
from lab.world import metric

COLUMNS = ["seconds", "requests_per_second", "cpu_us_per_request", "rss_mib", "open_files"]


def add_arguments(parser):
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--interval", type=float, default=10, help="seconds between two lines")


def run(lab, options):
    signer = lab.signer("RS256")
    tokens = lab.tokens(signer, 1000)
    load = lab.load()
    path = lab.tools / "soak.csv"
    seconds = round(options.minutes * 60)
    lines = []
    with lab.serving(signer, retention='retention = { size = "2GiB" }') as process:
        with open(path, "w", newline="") as file, \
                load.start_closed(proxies.GATEWAY, tokens, seconds + 2) as wrk:
            try:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                for line in sampled(process, seconds, options.interval):
                    writer.writerow(line)
                    file.flush()
                    lines.append(line)
                load.result(wrk)
            finally:
                wrk.kill()
    show(lines, options)


def sampled(process, seconds, interval):
    """A line for each interval, in the order of COLUMNS."""
    begin = last = time.monotonic()
    cpu, requests = process.cpu(), metric("requests_total")
    for number in range(1, int(seconds / interval) + 1):
        time.sleep(max(0, begin + number * interval - time.monotonic()))
        now, cpu_now, requests_now = time.monotonic(), process.cpu(), metric("requests_total")
        done = max(1, requests_now - requests)
        yield [round(now - begin), round(done / (now - last)),
               round(spent(cpu, cpu_now) * 1e6 / done, 1), round(process.memory(), 1),
               process.open_files()]
        last, cpu, requests = now, cpu_now, requests_now


def show(lines, options):
    report.heading(f"{options.minutes:g} minutes at full load")
    most = max(line[3] for line in lines)
    step = -(-len(lines) // 30)
    report.table(["second", "requests/s", "CPU us/request", "RSS MiB", "open files", "RSS"],
                 [[*line, f"`{report.bar(line[3], most)}`"] for line in lines[step - 1::step]])
    later = lines[len(lines) // 2:]
    if len(later) > 1:
        _, growth = report.slope([(line[0] / 60, line[3] * 1024) for line in later])
        print(f"\nMemory changes by {growth:+.0f} KiB a minute in the second half.")
