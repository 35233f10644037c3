"""The NIC's configuration as a device tree (docs/spec/config.md), made of Python's dictionaries.

    RackConfig(tree=volumes_tree([Volume("data", "nqn.2026-01.rack:a", 1)]), targets=1, ...)

A dictionary is a node, with its name (or "label: name") as key; a property is a string, a number, a
list of numbers, True for one without a value, a Ref, or bytes.
"""
import subprocess
import uuid
from dataclasses import dataclass, field

from rack.errors import RackError

# where the firmware of the board looks for the tree, and what is free there
LOAD_ADDRESS = 0x4f000000


@dataclass
class Ref:
    """<&label> of another node."""
    label: str


@dataclass
class Volume:  # pylint: disable=too-many-instance-attributes
    """A namespace of a target's subsystem (target.py) as a volume of the NIC, of the same NSID order
    as they are listed."""
    name: str
    nqn: str
    nsid: int = 1
    data_path: str = "zero-copy"
    more: dict = field(default_factory=dict)       # properties of the volume
    address: str = "192.0.2.101"                   # the first target's
    subsystem: dict = field(default_factory=dict)  # properties; one node for the same NQN and these


def namespace_uuid(nqn, nsid):
    """What a target of the rack calls a namespace."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{nqn}/{nsid}"))


def volumes_tree(volumes, options=None, function=None, local=None):
    """A tree in which function 0 has these volumes, from NSID 1 on. `local`: {name: properties of a
    path}, volumes of the NIC's own after them, e.g. {"scratch": {"ram": "64M"}}."""
    subsystems, nodes = {}, {}
    for volume in volumes:
        label = _subsystem_label(subsystems, volume)
        path = {"reg": 0, "subsystem": Ref(label), "uuid": namespace_uuid(volume.nqn, volume.nsid)}
        nodes[f"v_{volume.name}: {volume.name}"] = {
            "data-path": volume.data_path, **volume.more, "paths": {"path@0": path}}
    for name, path in (local or {}).items():
        nodes[f"v_{name}: {name}"] = {"paths": {"path@0": {"reg": 0, **path}}}
    names = [label.partition(":")[0] for label in nodes]
    namespaces = {f"namespace@{nsid:x}": {"reg": nsid, "volume": Ref(name)}
                  for nsid, name in enumerate(names, 1)}
    return {"compatible": "snic,config", "options": options or {}, "subsystems": subsystems,
            "volumes": nodes, "functions": {"function@0": {"reg": 0, **(function or {}),
                                                           **namespaces}}}


def _subsystem_label(subsystems, volume):
    node = {"nqn": volume.nqn, "address": volume.address, **volume.subsystem}
    for key, other in subsystems.items():
        if other == node:
            return key.partition(":")[0]
    label = f"s{len(subsystems)}"
    subsystems[f"{label}: {volume.nqn.rpartition(':')[2]}-{len(subsystems)}"] = node
    return label


def source(tree):
    """The tree as dtc reads it."""
    return "/dts-v1/;\n" + _node("/", tree, 0)


def compile_tree(tree, path):
    """Writes `path`, a device tree blob, and beside it its source."""
    text = source(tree)
    with open(f"{path}.dts", "w", encoding="utf-8") as file:
        file.write(text)
    result = subprocess.run(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", path], input=text,
                            text=True, capture_output=True, check=False)
    if result.returncode != 0:
        raise RackError(f"dtc refuses {path}.dts:\n{result.stderr}")


def _node(name, content, depth):
    """Properties come before nodes."""
    indent = "    " * depth
    lines = [f"{indent}{name} {{\n"]
    nodes = [(key, value) for key, value in content.items() if isinstance(value, dict)]
    for key, value in content.items():
        if value is True:
            lines.append(f"{indent}    {key};\n")
        elif not isinstance(value, dict):
            lines.append(f"{indent}    {key} = {_value(value)};\n")
    lines += [_node(key, value, depth + 1) for key, value in nodes]
    return "".join(lines) + f"{indent}}};\n"


def _value(value):
    if isinstance(value, Ref):
        return f"<&{value.label}>"
    if isinstance(value, bytes):
        return f"[{value.hex(' ')}]"
    if isinstance(value, (int, list)):
        cells = value if isinstance(value, list) else [value]
        return "<" + " ".join(str(cell) for cell in cells) + ">"
    return f'"{value}"'
