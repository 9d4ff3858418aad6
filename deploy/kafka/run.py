"""Kafka on this machine, for as long as this command runs: ``python deploy/kafka/run.py [--brokers 3] [--port 9092]``.

With a command behind ``--`` it runs that with KAFKA_BOOTSTRAP_SERVERS set, and ends with it. Its data are gone afterwards.
Standard library only.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from kafka_cluster import Cluster
from kafka_jars import NoKafka


def main() -> int:
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--port", type=int, help="of the first broker; a free one by default")
    parser.add_argument("command", nargs="*", help="to run beside Kafka; none: run until interrupted")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Cluster.start(given.brokers, port=given.port) as cluster:
            if given.command:
                environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers}
                return subprocess.run(given.command, env=environment, check=False).returncode  # noqa: S603 - the caller's own
            print(f"export KAFKA_BOOTSTRAP_SERVERS={cluster.bootstrap_servers}", flush=True)  # noqa: T201 - what it is for
            print("Kafka runs until Ctrl-C; its data are gone then.", file=sys.stderr)  # noqa: T201
            signal.pause()
    except NoKafka as error:
        print(f"kafka: {error}", file=sys.stderr)  # noqa: T201
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
