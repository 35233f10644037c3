"""The NIC's flash, when it boots from it: two banks, files of the rack's folder. They keep their
content over stop(), start() and power cuts of the NIC."""
import os

import flash_image
from rack.errors import RackError
from rack.tree import compile_tree, volumes_tree

BANKS = ["nic-flash0.img", "nic-flash1.img"]
TREE = "nic-flash.dtb"


def make_flash(config, folder):
    """As it leaves the factory: bootloader; the image in slot A, no boot record; configuration."""
    for path in (config.bootloader, config.image):
        if not os.path.exists(path):
            raise RackError(f"there is no {path}: run `make image` first")
    if config.nic_args:
        raise RackError("nic_args are words of QEMU's command line, which flash has not")
    tree = os.path.join(folder, TREE)
    compile_tree(flash_tree(config), tree)
    flash_image.make_bank(os.path.join(folder, BANKS[0]), {0: flash_image.read(config.bootloader)})
    flash_image.make_bank(os.path.join(folder, BANKS[1]), {
        flash_image.CONFIG_OFFSET: flash_image.config(flash_image.read(tree)),
        flash_image.SLOT_OFFSETS[0]: flash_image.read(config.image)})


def flash_arguments():
    """Of QEMU; a watchdog is there for trials."""
    arguments = ["-device", "i6300esb", "-action", "watchdog=reset"]
    # QEMU writes a bank's file in the core's thread, which may take the wake-up that its main loop
    # was given for a timer; then timers rest until something else wakes that loop: this does
    arguments += ["-chardev", "socket,id=tick,path=nobody.listens,reconnect-ms=100"]
    for bank, more in zip(BANKS, (",readonly=on", "")):
        arguments += ["-drive", f"if=pflash,format=raw,file={bank}{more}"]
    return arguments


def flash_tree(config):
    """What RackConfig.bootargs() says, as a device tree."""
    tree = dict(config.tree or volumes_tree([], local=_local_volumes(config.namespaces)))
    tree["options"] = {"cores": config.nic_cores, "idle": config.idle, **tree.get("options", {})}
    if config.fabric:
        port = {"reg": 0, "ip": f"{config.nic_ip}/{config.prefix}",
                "ip6": f"{config.nic_ip6}/{config.prefix6}", "mtu": config.mtu,
                "vlan": config.vlan}
        tree["ports"] = {"port@0": port}
    return tree


def _local_volumes(namespaces):
    """{name: properties of its path} for a list as the word ns= takes it."""
    volumes = {}
    for number, text in enumerate((namespaces or "drive:0,ram:64M").split(",")):
        kind, size, *rest = text.split(":")
        path = {"drive": int(size)} if kind == "drive" else {kind: size}
        if rest:
            path["drive-nsid" if kind == "drive" else "block-size"] = int(rest[0])
        volumes[f"{kind}{number}"] = path
    return volumes
