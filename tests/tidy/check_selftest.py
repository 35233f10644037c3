#!/usr/bin/python3
"""The tidy checks can fail: each rule gets a sample that breaks it, and one that just does not."""
import os
import re
import shutil
import sys
import unittest

import check_barriers
import check_format
import check_includes
import check_style
import source


def includes(path, text, there):
    return list(check_includes.check(path, text, lambda p: p in there))


class Includes(unittest.TestCase):
    """check_includes.py"""

    THERE = {'firmware/base/log.h', 'firmware/sched/sched.h', 'firmware/nvme/nvme.h',
             'firmware/nvme/nvme_priv.h', 'firmware/nvme_ep/nvme_ep.h', 'firmware/nvme_drv/nvme_drv.h',
             'firmware/vol/vol.h', 'firmware/spec/nvme.h', 'firmware/app/app.h',
             'hal/include/hal/cpu.h', 'hal/drivers/pl011.h', 'hal/drivers/gicv2.h',
             'hal/drivers/gicv2_priv.h', 'hal/native/native.h', 'hal/native/vfu/vfu.h',
             'boards/rack/rack.h', 'hal/arch/aarch64/mmu.h'}

    def allowed(self, path, name):
        self.assertEqual(includes(path, f'#include "{name}"\n', self.THERE), [])

    def refused(self, path, name):
        self.assertEqual([line for line, _ in includes(path, f'\n#include "{name}"\n', self.THERE)],
                         [2])

    def test_downward_is_allowed_upward_is_not(self):
        self.allowed('firmware/nvme_ep/x.c', 'nvme/nvme.h')
        self.allowed('firmware/app/x.c', 'nvme_ep/nvme_ep.h')
        self.allowed('firmware/sched/x.c', 'hal/cpu.h')
        self.refused('firmware/nvme/x.c', 'nvme_ep/nvme_ep.h')
        self.refused('firmware/base/x.c', 'hal/cpu.h')
        self.refused('firmware/base/x.c', 'spec/nvme.h')
        self.refused('hal/include/hal/x.h', 'sched/sched.h')
        self.refused('firmware/nvme_ep/x.c', 'app/app.h')

    def test_siblings_never_include_each_other(self):
        self.refused('firmware/nvme_ep/x.c', 'nvme_drv/nvme_drv.h')
        self.refused('firmware/nvme/x.c', 'vol/vol.h')

    def test_private_headers_stay_in_their_folder(self):
        self.allowed('firmware/nvme/x.c', 'nvme/nvme_priv.h')
        self.refused('firmware/nvme_ep/x.c', 'nvme/nvme_priv.h')

    def test_update_and_bootloader_know_the_bottom_alone(self):
        self.allowed('firmware/update/x.c', 'base/log.h')
        self.refused('firmware/update/x.c', 'sched/sched.h')
        self.refused('firmware/bootloader/x.c', 'sched/sched.h')

    def test_drivers_do_not_know_each_other(self):
        self.allowed('hal/drivers/gicv2.c', 'hal/drivers/gicv2.h')
        self.allowed('hal/drivers/gicv2.c', 'hal/drivers/gicv2_priv.h')
        self.allowed('hal/drivers/gicv2_msi.c', 'hal/drivers/gicv2.h')
        self.refused('hal/drivers/gicv2.c', 'hal/drivers/pl011.h')
        self.refused('hal/drivers/gicv2.c', 'sched/sched.h')

    def test_pcielink_and_host_tools_share_base_and_spec_alone(self):
        self.allowed('boards/qemu-virt/pcielink/x.c', 'hal/native/vfu/vfu.h')
        self.allowed('boards/qemu-virt/pcielink/x.c', 'spec/nvme.h')
        self.refused('boards/qemu-virt/pcielink/x.c', 'hal/cpu.h')
        self.refused('boards/qemu-virt/pcielink/x.c', 'hal/native/native.h')
        self.refused('hal/native/vfu/x.c', 'hal/native/native.h')
        self.refused('host_tools/snicctl/x.c', 'sched/sched.h')

    def test_boards_do_not_know_each_other_nor_modules(self):
        self.allowed('boards/virt/x.c', 'hal/arch/aarch64/mmu.h')
        self.refused('boards/virt/x.c', 'boards/rack/rack.h')
        self.refused('boards/virt/x.c', 'nvme/nvme.h')

    def test_unknown_parts_and_headers_are_named(self):
        self.refused('firmware/base/x.c', 'base/gone.h')
        self.assertNotEqual(includes('firmware/newfolder/x.c', '', self.THERE), [])

    def test_portable_code_includes_no_posix(self):
        for path, name, problems in (('firmware/base/x.c', 'string.h', 0),
                                     ('firmware/base/x.c', 'pthread.h', 1),
                                     ('hal/drivers/x.c', 'unistd.h', 1),
                                     ('hal/native/x.c', 'unistd.h', 0),
                                     ('tests/unit/x.c', 'unistd.h', 0)):
            self.assertEqual(len(includes(path, f'#include <{name}>\n', set())), problems, path)


def style(text, path='firmware/nvme/x.c'):
    return [(line, what) for line, what in check_style.check(path, text)]


def function(lines, name='f'):
    return f'static void {name}(void)\n{{\n' + '    x();\n' * (lines - 3) + '}\n'


class Style(unittest.TestCase):
    """check_style.py"""

    def refused(self, text, word, path='firmware/nvme/x.c'):
        found = [what for _, what in style(text, path)]
        self.assertTrue(any(word in what for what in found), f'{text!r}: {found}')

    def allowed(self, text, path='firmware/nvme/x.c'):
        self.assertEqual(style(text, path), [])

    def test_function_length(self):
        self.allowed(function(70))
        self.refused(function(71), '71 lines')
        self.refused('struct a {\n    int x;\n};\n\n' + function(71), '71 lines')

    def test_function_length_counts_a_head_of_several_lines(self):
        head = 'static void g(int first,\n              int second)\n'
        self.refused(head + '{\n' + '    x();\n' * 67 + '}\n', '71 lines')
        self.allowed(head + '{\n' + '    x();\n' * 66 + '}\n')

    def test_file_length(self):
        self.allowed('int x;\n' * 600)
        self.refused('int x;\n' * 601, '601 lines')
        self.refused('int x;\n' * 201, '201 lines', 'hal/include/hal/x.h')
        self.allowed('int x;\n' * 601, 'tests/unit/x/test_x.c')

    def test_lines(self):
        self.refused('\tint x;\n', 'tab')
        self.refused('int x; \n', 'blanks')
        self.refused('int x;', 'no end')
        self.allowed('/*' + 'x' * 96 + '*/\n')
        self.refused('/*' + 'x' * 97 + '*/\n', '101 columns')

    def test_todo_names_its_follow_up(self):
        self.refused('/* TODO: later */\n', 'TODO')
        self.allowed('/* TODO(#12): later */\n')
        self.refused('/* FIXME */\n', 'open end')

    def test_volatile_has_one_home(self):
        self.refused('static volatile int x;\n', 'volatile')
        self.allowed('static volatile int x;\n', 'hal/include/hal/mmio.h')
        self.allowed('/* a volatile cache */ const char *s = "volatile";\n')
        self.allowed('__asm__ volatile("dmb ish" ::: "memory");\n')

    def test_no_heap_and_no_formatting_on_the_data_path(self):
        self.refused('p = malloc(4);\n', 'malloc')
        self.refused('free(p);\n', 'free', 'firmware/app/x.c')
        self.allowed('buffer_free(p);\n')
        self.allowed('p = malloc(4);\n', 'hal/native/x.c')
        self.refused('snprintf(a, n, "x");\n', 'snprintf')
        self.allowed('snprintf(a, n, "x");\n', 'firmware/app/x.c')
        self.refused('sprintf(a, "x");\n', 'sprintf', 'firmware/app/x.c')

    def test_braces(self):
        self.refused('    if (a(b))\n        c();\n', 'if without')
        self.refused('    for (;;)\n        c();\n', 'for without')
        self.refused('    if (a) {\n    } else\n        c();\n', 'else without')
        self.allowed('    if (a) {\n    } else if (b) {\n    } else {\n    }\n')
        self.allowed('    do {\n    } while (a(b));\n')
        self.allowed('#if (X)\n#else\n#endif\n')

    def recursion(self, text):
        return [what for _, _, what in check_style.recursion({'firmware/nvme/x.c': text})]

    def test_recursion(self):
        direct = 'void a(void)\n{\n    a();\n}\n'
        pair = 'static void a(void)\n{\n    b();\n}\n\nstatic void b(void)\n{\n    a();\n}\n'
        chain = 'static void a(void)\n{\n}\n\nstatic void b(void)\n{\n    a();\n    ops->b();\n}\n'
        self.assertEqual(len(self.recursion(direct)), 1)
        self.assertEqual(len(self.recursion(pair)), 2)
        self.assertEqual(self.recursion(chain), [])
        self.assertEqual(self.recursion('/* Bounded recursion: ends at once. */\n' + direct), [])
        self.assertEqual(self.recursion('/* Bounded recursion: ends at once. */\n' + pair), [])
        self.assertEqual(len(self.recursion('/* Goes down. */\n' + direct)), 1)

    def test_recursion_over_files(self):
        texts = {'firmware/a/a.c': 'void a(void)\n{\n    b();\n}\n',
                 'firmware/b/b.c': 'void b(void)\n{\n    a();\n}\n'}
        self.assertEqual(len(check_style.recursion(texts)), 2)
        texts['firmware/b/b.c'] = 'static void b(void)\n{\n    a();\n}\n'
        self.assertEqual(check_style.recursion(texts), [])


class Barriers(unittest.TestCase):
    """check_barriers.py"""

    def look(self, code, needs):
        assembly = 'f:\n.LFB0:\n' + ''.join(f'\t{line}\n' for line in code) + '\t.size\tf, .-f\n'
        barrier = check_barriers.Barrier('B', 'x.c', 'f', needs, 'P')
        return list(check_barriers.look('gcc', assembly, [barrier]))

    def test_order_counts(self):
        needs = [check_barriers.STORE, check_barriers.FULL, check_barriers.LOAD]
        self.assertEqual(self.look(['str w0, [x1]', 'dmb ish', 'ldr w0, [x2]', 'ret'], needs), [])
        self.assertEqual(len(self.look(['str w0, [x1]', 'ldr w0, [x2]', 'dmb ish'], needs)), 1)
        self.assertEqual(len(self.look(['dmb ish', 'str w0, [x1]', 'ldr w0, [x2]'], needs)), 1)

    def test_weaker_instructions_do_not_serve(self):
        for code, need, problems in (('ldr w0, [x1]', check_barriers.LOAD_ACQUIRE, 1),
                                     ('ldar w0, [x1]', check_barriers.LOAD_ACQUIRE, 0),
                                     ('str w0, [x1]', check_barriers.STORE_RELEASE, 1),
                                     ('stlr w0, [x1]', check_barriers.STORE_RELEASE, 0),
                                     ('dmb ishst', check_barriers.FULL, 1),
                                     ('dmb ish', check_barriers.SYSTEM_STORE, 1),
                                     ('dmb oshst', check_barriers.SYSTEM_STORE, 0),
                                     ('dmb sy', check_barriers.SYSTEM_FULL, 1)):
            self.assertEqual(len(self.look([code], [need])), problems, code)

    def test_a_function_that_went_away_is_a_problem(self):
        barrier = check_barriers.Barrier('B', 'x.c', 'gone', [], 'P')
        self.assertEqual(len(list(check_barriers.look('gcc', 'f:\n\tret\n\t.size f\n', [barrier]))), 1)

    @unittest.skipIf(shutil.which('aarch64-linux-gnu-gcc') is None, 'no cross compiler')
    def test_a_plain_store_in_real_code_is_found(self):
        wrong = check_barriers.Barrier('B', check_barriers.LITMUS, 'litmus_acquire',
                                       [check_barriers.STORE_RELEASE], 'P')
        self.assertEqual(len(check_barriers.check([wrong], ['gcc'])), 1)


class Source(unittest.TestCase):
    """source.py"""

    def test_code_of_keeps_lines_and_drops_words(self):
        text = 'a /* volatile\nb */ "volatile" // TODO\nc\n'
        code = source.code_of(text)
        self.assertEqual(len(code), len(text))
        self.assertIsNone(re.search('volatile|TODO', code))
        self.assertEqual(code.split('\n')[2], 'c')

    def test_files_are_sources_of_this_tree(self):
        paths = source.files()
        self.assertIn('firmware/base/pool.c', paths)
        self.assertFalse(any(p.startswith('build/') for p in paths))

    @unittest.skipIf(shutil.which('clang-format') is None, 'no clang-format')
    def test_format_names_a_file_that_differs(self):
        path = 'build/tidy_selftest.c'
        os.makedirs(os.path.join(source.ROOT, 'build'), exist_ok=True)
        full = os.path.join(source.ROOT, path)
        try:
            for text, problems in (('int  x ;\n', 1), ('int x;\n', 0)):
                with open(full, 'w', encoding='utf-8') as f:
                    f.write(text)
                self.assertEqual(len(check_format.check([path])), problems)
        finally:
            os.unlink(full)


if __name__ == '__main__':
    sys.exit(0 if unittest.main(exit=False, verbosity=0).result.wasSuccessful() else 1)
