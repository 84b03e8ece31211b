# SPDX-License-Identifier: Apache-2.0
"""The binary of the previous release, with which this one must get along: TUTTI_PREVIOUS_BINARY, or built once from git into
~/.cache/tutti/previous/<commit>. It is the newest tag before this commit that has what `tests/previous-release` names, or else
what that names: the commit before shards could split. Run as a program it prints where the binary is."""
import fcntl
import os
import pathlib
import shutil
import subprocess
import tempfile

from harness import ROOT

BUILD_SECONDS_MAX = 900


class NotThere(Exception):
    """The commit is not in this clone."""


def git(*words):
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def commit():
    """The commit of the previous release, in full."""
    oldest = (ROOT / "tests" / "previous-release").read_text(encoding="utf-8").split()[0]
    if git("cat-file", "-e", oldest + "^{commit}") is None:
        raise NotThere(f"this clone does not have commit {oldest[:12]} of the previous release (it is shallow, or no clone)")
    tag = git("describe", "--tags", "--abbrev=0", "HEAD^")
    if tag is not None and git("merge-base", "--is-ancestor", oldest, tag) is not None:
        return git("rev-parse", tag + "^{commit}")
    return oldest


def build(name, target):
    with tempfile.TemporaryDirectory(prefix="tutti-previous-") as directory:
        def run(*words, **options):
            done = subprocess.run(words, cwd=directory, stderr=subprocess.STDOUT, timeout=BUILD_SECONDS_MAX, check=False,
                                  stdout=options.pop("stdout", subprocess.PIPE), **options)
            assert done.returncode == 0, f"{words[0]} of {name}: {(done.stdout or b'')[-2000:].decode(errors='replace')}"

        tree = pathlib.Path(directory) / "tree.tar"
        run("git", "-C", str(ROOT), "archive", "--output", str(tree), name)
        run("tar", "-xf", str(tree))
        # What a newer compiler warns of is no concern of ours, and nobody debugs it.
        run("meson", "setup", "build", "-Dwerror=false", "-Ddebug=false")
        run("ninja", "-C", "build", "--quiet", "tutti")
        partial = target.with_suffix(".partial")
        shutil.copy(pathlib.Path(directory) / "build" / "tutti", partial)
        partial.rename(target)


def binary():
    """Its path. NotThere: there is nothing to build it from."""
    given = os.environ.get("TUTTI_PREVIOUS_BINARY")
    if given:
        return pathlib.Path(given)
    name = commit()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tutti" / "previous" / name
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / "tutti"
    with open(cache / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            build(name, target)
    return target


if __name__ == "__main__":
    print(binary())
