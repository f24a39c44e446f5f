#!/usr/bin/env python3
"""The gateway beside other proxies that do the same work.

Each proxy takes a PUT with a Bearer token, checks signature, issuer, audience, time and role, puts
the CMS's Basic credential in the token's place and sends the PUT on to the same upstream. The
gateway also decides by campaign and writes its audit trail to disk (`durability = "fsync"`). Run
`setup` once before.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target/bench-tools"


def use_the_tools_python():
    """Goes on in the environment that `setup` made, which has PyJWT and cryptography."""
    python = TOOLS / "venv/bin/python"
    if not python.exists():
        sys.exit(f"run {Path(__file__).parent / 'setup'} first")
    if Path(sys.prefix) != TOOLS / "venv":
        os.execv(python, [python, *sys.argv])


def main():
    # These need the environment.
    from commands import cores, growth, latency, memory, overload, soak, start, table
    from lab.machine import Failure
    from lab.world import Lab

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gateway", type=Path, default=ROOT / "target/release/cms-gateway",
                        help="its binary, built with --release")
    parser.add_argument("--proxy-cores", type=core_list, default={0},
                        help="0 unless said otherwise")
    parser.add_argument("--load-cores", type=core_list, default={1},
                        help="of upstream and load; 1 unless said otherwise")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (table, latency, memory, start, cores, overload, soak, growth):
        name = command.__name__.rpartition(".")[2]
        subparser = subparsers.add_parser(
            name, help=command.__doc__.partition("\n")[0], description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    options = parser.parse_args()

    # Ctrl-C ends it in the background of a script too, where it would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        with Lab(TOOLS, options.gateway, options.proxy_cores, options.load_cores) as lab:
            options.run(lab, options)
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")
    except KeyboardInterrupt:
        sys.exit("ended by Ctrl-C")


def core_list(text):
    return {int(core) for core in text.split(",")}


if __name__ == "__main__":
    use_the_tools_python()
    main()
