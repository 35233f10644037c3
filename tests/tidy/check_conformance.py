#!/usr/bin/python3
"""docs/CONFORMANCE.md speaks the truth about tests: each one that it names exists, and each test of the
controller core and of the RDMA engine is named somewhere in it or in TOLERATED.
"""
import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Tests of our own contracts, which no clause asks for.
TOLERATED = {
    'identify_writes_4096_bytes_and_no_more', 'ctrl_config_out_of_range_is_refused',
    'ctrl_names_of_full_length_are_taken', 'ctrl_config_at_its_ends_is_taken', 'ctrl_transport_is_what_was_given',
    'admin_queue_commands_go_to_the_transport', 'io_cancelled_ends_once_by_its_device',
    'flush_all_cancelled_visits_no_further_device', 'fua_cancelled_starts_no_second_step',
    'shutdown_without_namespaces_is_done', 'shutdown_ends_untold_at_disable',
    'shutdown_after_one_that_was_given_up_flushes_anew', 'detach_twice_is_refused',
    'detach_of_several_at_once_ends_for_each',
}


def tests_in(folder):
    names = set()
    for path in glob.glob(os.path.join(ROOT, 'tests', 'unit', folder, '*.c')):
        with open(path, encoding='utf-8') as file:
            names |= set(re.findall(r'^static void (\w+)\(void \*\*state\)', file.read(), re.M))
    return names


def main():
    with open(os.path.join(ROOT, 'docs', 'CONFORMANCE.md'), encoding='utf-8') as file:
        text = file.read()
    named = {n for n in re.findall(r'`([a-z0-9]+(?:_[a-z0-9]+){2,})`', text)}
    faults = [f'docs/CONFORMANCE.md names {n}: there is no such test'
              for n in sorted(named - tests_in('*'))]
    for folder in ('nvme', 'rdma'):
        faults += [f'tests/unit/{folder}: {n} is in no table of docs/CONFORMANCE.md'
                   for n in sorted(tests_in(folder) - named - TOLERATED)]
    for fault in faults:
        print(fault)
    print(f'{len(named)} tests named')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
