"""Device trees with something missing or wrong: QEMU's own, edited as text."""
import contextlib
import functools
import os
import re
import subprocess
import tempfile

from machine import qemu


@functools.lru_cache(maxsize=None)
def _source():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'virt.dtb')
        subprocess.run([qemu(), '-nodefaults', '-M', f'virt,dumpdtb={path}', '-cpu', 'cortex-a72',
                        '-smp', '2', '-m', '512M', '-display', 'none'],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return subprocess.run(['dtc', '-q', '-I', 'dtb', '-O', 'dts', path], check=True, text=True,
                              capture_output=True).stdout


class Tree:
    """The source text of a device tree. Node names are unique in it."""

    def __init__(self, text):
        self.text = text

    def _span(self, node):
        """Start and end of `node { ... };`, and where its body starts."""
        head = re.search(r'^[ \t]*' + re.escape(node) + r' \{\n', self.text, re.M)
        if not head:
            raise ValueError(f'no node {node}')
        depth = 0
        for brace in re.finditer(r'[{}]', self.text[head.start():]):
            depth += 1 if brace[0] == '{' else -1
            if depth == 0:
                return head.start(), head.start() + brace.end() + 1, head.end()
        raise ValueError(f'no end of {node}')

    def remove_node(self, node):
        start, end, _ = self._span(node)
        self.text = self.text[:start] + self.text[end:]

    def add_property(self, node, line):
        _, _, body = self._span(node)
        self.text = self.text[:body] + line + ';\n' + self.text[body:]

    def remove_property(self, node, name):
        start, end, body = self._span(node)
        old = self.text[body:end]
        new = re.sub(r'^[ \t]*' + re.escape(name) + r'( = [^;]*)?;\n', '', old, count=1, flags=re.M)
        if new == old:
            raise ValueError(f'{node} has no {name}')
        self.text = self.text[:body] + new + self.text[end:]
        assert start < body

    def set_property(self, node, name, value):
        self.remove_property(node, name)
        self.add_property(node, f'{name} = {value}')


@contextlib.contextmanager
def edited(edit):
    """Path of the tree after `edit(tree)`."""
    tree = Tree(_source())
    edit(tree)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'edited.dtb')
        subprocess.run(['dtc', '-q', '-I', 'dts', '-O', 'dtb', '-o', path], input=tree.text,
                       text=True, check=True)
        yield path
