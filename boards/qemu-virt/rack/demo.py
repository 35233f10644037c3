#!/usr/bin/python3
"""The main job, shown: an unmodified Linux uses NVMe drives that are our firmware. Their data is on a
target across the fabric (--drive remote) or on a drive of the NIC (--drive local).

Ends with a verdict; exit status 0 means that every step passed.
"""
import argparse
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
from rack import Rack, RackConfig, RackError
from rack import demo_remote
from rack.config import TOP
from rack.demo_local import LocalDemo
from rack.demo_steps import Output


def main():
    demo, config, what_next = _parse_arguments()
    out = Output()
    start_s = time.monotonic()
    print("snic: a SmartNIC that is an NVMe drive to its host")
    out.title("Starting")
    rack = Rack("demo", config, progress=out.note)
    try:
        with rack:
            demo(rack, out).run()
    except RackError as error:
        print("\n" + "\n".join("    " + line for line in str(error).splitlines()))
        print(f"\n{out.bad('FAILED')}; logs: {os.path.relpath(rack.folder, TOP)}/")
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped")
        return 130
    print(f"\n{out.good('PASSED')}: {out.step_count} steps in {time.monotonic() - start_s:.0f} s. "
          f"Try it by hand: {what_next}")
    return 0


def _parse_arguments():
    """(class of the demonstration, configuration of its rack, how to go on)."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RackConfig()
    parser.add_argument("--drive", default="remote", choices=["remote", "local"],
                        help="where the data is (remote)")
    parser.add_argument("--board", default=default.board,
                        choices=["qemu-virt", "native", "reference"])
    parser.add_argument("--guest", default=default.guest)
    parser.add_argument("--nic-cores", type=int, default=default.nic_cores)
    parser.add_argument("--doorbells", default=default.doorbells, choices=["mapped", "trapped"])
    arguments = parser.parse_args()
    words = {"board": arguments.board, "guest": arguments.guest, "nic_cores": arguments.nic_cores,
             "doorbells": arguments.doorbells}
    if arguments.drive == "local" or arguments.board == "reference":
        return LocalDemo, RackConfig(**words), "make rack"
    return demo_remote.RemoteDemo, demo_remote.config(**words), 'make rack RACK="--target"'


if __name__ == "__main__":
    sys.exit(main())
