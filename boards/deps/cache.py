"""The cache folder: artifacts named by the hash of their recipe, built aside, moved in by rename.

    $SNIC_CACHE/<name>-<hash>/                 the files
    $SNIC_CACHE/<name>-<hash>/manifest.json    what they are: size, mtime, SHA-256, source packages

A folder under its final name is complete by construction; `check` notices later damage.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time

from util import DepsError, Step, human_size, say

MANIFEST = "manifest.json"


def root():
    """The cache folder, created on first use."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.abspath(os.environ.get("SNIC_CACHE") or os.path.join(user_cache, "snic"))
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise DepsError(f"cannot create the cache folder {path} ({error.strerror}): "
                        "set SNIC_CACHE to a folder you can write to") from error
    return path


def recipe_hash(recipe):
    """Hash over everything that decides what the recipe builds."""
    digest = hashlib.sha256(recipe.key().encode())
    for path in recipe.inputs():
        with open(path, "rb") as file:
            digest.update(b"\0" + os.path.basename(path).encode() + b"\0" + file.read())
    return digest.hexdigest()[:12]


def path_of(recipe):
    """Where the artifact of this recipe is, or will be."""
    return os.path.join(root(), f"{recipe.name}-{recipe_hash(recipe)}")


def get(recipe):
    """Path of the artifact; builds it if it is missing or damaged."""
    path = path_of(recipe)
    if is_intact(path):
        return path
    with _locked(recipe.name):
        if is_intact(path):  # another run built it while this one waited
            return path
        _build(recipe, path)
    return path


def is_intact(path):
    """Cheap check: the size and mtime of each file; a file whose mtime differs is hashed."""
    manifest = _load(path)
    if manifest is None:
        return False
    touched = False
    for name, entry in manifest["files"].items():
        state = _compare(os.path.join(path, name), entry)
        if state == "damaged":
            say(f"{path}/{name} is missing or changed: building it again")
            return False
        touched = touched or state == "touched"
    if touched:  # for example after the cache was copied: hashes are right, remember the new mtimes
        _write_manifest(path, manifest["name"], manifest["source"])
    return True


def verify(path):
    """Full check: names of the files whose content is not what the manifest says."""
    manifest = _load(path)
    if manifest is None:
        return [MANIFEST]
    return [name for name, entry in manifest["files"].items()
            if _digest(os.path.join(path, name)) != entry["sha256"]]


def entries():
    """All artifacts in the cache, old recipes' too."""
    return sorted(entry.path for entry in os.scandir(root())
                  if entry.is_dir() and os.path.exists(os.path.join(entry.path, MANIFEST)))


def _build(recipe, path):
    start_s = time.monotonic()
    say(f"{recipe.name}: {recipe.why}")
    work = tempfile.mkdtemp(prefix=f"tmp-{recipe.name}-", dir=root())
    try:
        out = os.path.join(work, "out")
        os.mkdir(out)
        source = recipe.build(out, work)
        _write_manifest(out, recipe.name, source)
        if os.path.lexists(path):
            shutil.rmtree(path)
        os.rename(out, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    size_bytes = sum(e["size"] for e in _load(path)["files"].values())
    say(f"{recipe.name}: ready, {human_size(size_bytes)}, {time.monotonic() - start_s:.0f} s")


@contextlib.contextmanager
def _locked(name):
    """One builder per artifact; the lock dies with its process."""
    with open(os.path.join(root(), f".lock-{name}"), "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with Step(f"{name}: another run is building it, waiting"):
                fcntl.flock(file, fcntl.LOCK_EX)
        _remove_leftovers(name)
        yield


def _remove_leftovers(name):
    """Temp folders of builders that were killed: under the lock, nobody else owns one."""
    for entry in os.scandir(root()):
        if entry.name.startswith(f"tmp-{name}-"):
            shutil.rmtree(entry.path, ignore_errors=True)


def _load(path):
    try:
        with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _write_manifest(path, name, source):
    files = {}
    for folder, _, names in sorted(os.walk(path)):
        for file in sorted(names):
            full = os.path.join(folder, file)
            if file != MANIFEST and os.path.isfile(full):
                state = os.stat(full)
                files[os.path.relpath(full, path)] = {
                    "size": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": _digest(full)}
    temp = os.path.join(path, MANIFEST + ".new")
    with open(temp, "w", encoding="utf-8") as file:
        json.dump({"name": name, "source": source, "files": files}, file, indent=1)
    os.rename(temp, os.path.join(path, MANIFEST))


def _compare(path, entry):
    try:
        state = os.stat(path)
    except OSError:
        return "damaged"
    if state.st_size != entry["size"]:
        return "damaged"
    if state.st_mtime_ns == entry["mtime_ns"]:
        return "same"
    return "touched" if _digest(path) == entry["sha256"] else "damaged"


def _digest(path):
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
