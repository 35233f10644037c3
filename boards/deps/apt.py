"""Debian packages without installing them: a private apt folder, signatures checked by apt.

The machine's package state is neither read nor changed, no root is needed, and the release asked
for need not be the machine's own. The mirror is the machine's own Debian mirror, if it has one.
"""
import os
import re
import subprocess

from util import DepsError, Step, human_size, need_tools, run

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEFAULT_MIRROR = "http://deb.debian.org/debian"
DEFAULT_SECURITY = "http://deb.debian.org/debian-security"


def mirrors():
    """(main, security archive): SNIC_MIRROR, else the machine's apt sources, else Debian's."""
    main, security = os.environ.get("SNIC_MIRROR"), None
    listed = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], text=True,
                            capture_output=True, check=False).stdout.split()
    for uri in (uri.rstrip("/") for uri in listed if re.match(r"https?://", uri)):
        if uri.endswith("/debian"):
            main = main or uri
        elif uri.endswith("/debian-security"):
            security = security or uri
    return main or DEFAULT_MIRROR, security or DEFAULT_SECURITY


class PrivateApt:
    """apt with its own sources, lists and an empty package status, below `folder`."""

    def __init__(self, folder, suites, arch="amd64", default_release=None):
        need_tools(["apt-get", "apt-cache", "dpkg-deb"], "fetching packages")
        if not os.path.exists(KEYRING):
            raise DepsError(f"{KEYRING} is missing: install the package debian-archive-keyring")
        self.folder = os.path.join(folder, f"apt-{arch}")
        self.options = self._make_options(arch, default_release)
        self._write_sources(suites)
        with Step(f"reading the package lists of {', '.join(suites)} ({arch})"):
            self._apt("apt-get", "update", "-o", "APT::Update::Error-Mode=any")

    def direct_depends(self, package, pattern):
        """The one direct dependency of a meta package that matches the pattern."""
        text = self._apt("apt-cache", "depends", package)
        found = re.findall(rf"Depends: ({pattern})$", text, re.MULTILINE)
        if not found:
            raise DepsError(f"package {package} has no dependency like {pattern}: "
                            "the recipe must be adapted to the archive")
        return found[0]

    def unpack(self, packages, into):
        """Downloads just these packages and unpacks them; returns their file names."""
        return self._fetch(["download", *packages], packages, into)

    def unpack_closure(self, packages, into):
        """Downloads these packages with all that they depend on and unpacks everything."""
        command = ["install", "-y", "--no-install-recommends", "--download-only",
                   "-o", f"Dir::Cache::archives={self._archives()}", *packages]
        return self._fetch(command, packages, into)

    def _fetch(self, command, packages, into):
        archives = self._archives()
        with Step(f"downloading {_short(packages)}"):
            self._apt("apt-get", *command, cwd=archives)
        debs = sorted(name for name in os.listdir(archives) if name.endswith(".deb"))
        size_bytes = sum(os.path.getsize(f"{archives}/{deb}") for deb in debs)
        with Step(f"unpacking {len(debs)} packages ({human_size(size_bytes)})"):
            for deb in debs:
                run(["dpkg-deb", "-x", f"{archives}/{deb}", into], f"unpacking {deb}")
                os.unlink(f"{archives}/{deb}")
        return debs

    def _archives(self):
        return os.path.join(self.folder, "archives")

    def _make_options(self, arch, default_release):
        state = {
            "Dir::Etc::sourcelist": f"{self.folder}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": f"{self.folder}/state",
            "Dir::State::Lists": f"{self.folder}/lists",
            "Dir::State::status": f"{self.folder}/status",
            "Dir::Cache": f"{self.folder}/cache",
            "Dir::Cache::archives": f"{self.folder}/archives",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if default_release:
            state["APT::Default-Release"] = default_release
        if os.geteuid() == 0:
            state["APT::Sandbox::User"] = "root"  # _apt may not enter the user's cache folder
        return [word for key, value in state.items() for word in ("-o", f"{key}={value}")]

    def _write_sources(self, suites):
        for name in ("state", "lists/partial", "cache", "archives/partial"):
            os.makedirs(f"{self.folder}/{name}", exist_ok=True)
        main, security = mirrors()
        with open(f"{self.folder}/sources.list", "w", encoding="utf-8") as file:
            for suite in suites:
                uri = security if suite.endswith("-security") else main
                file.write(f"deb [signed-by={KEYRING}] {uri} {suite} main\n")
        with open(f"{self.folder}/status", "w", encoding="utf-8"):
            pass

    def _apt(self, tool, *words, cwd=None):
        try:
            return run([tool, *self.options, "-q", *words], f"{tool} {words[0]}", cwd=cwd,
                       env={**os.environ, "LC_ALL": "C"})
        except DepsError as error:
            raise DepsError(f"{error}\n  The package archive could not be used. Check the network "
                            "and the mirror (SNIC_MIRROR=http://.../debian selects another), "
                            "then run the same command again: what is finished is kept.") from error


def _short(packages):
    if len(packages) <= 4:
        return " ".join(packages)
    return f"{packages[0]} and {len(packages) - 1} more"
