# SPDX-License-Identifier: Apache-2.0
"""What a person types: the demonstration and the installation."""
import os
import subprocess

from harness import BINARY, ROOT


def run(*command, **environment):
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=120, check=False)


def test_the_demonstration_keeps_its_promises(tmp_path):
    """`tutti demo` checks everything that it shows: joining, a killed leader, growing, draining."""
    result = run(str(BINARY), "demo", "--data", str(tmp_path / "demo"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 errors" in result.stdout and "What you saw" in result.stdout


def test_the_demonstration_removes_nothing_of_others(tmp_path):
    """A tour begins by removing what an earlier one has left, and only that."""
    kept = tmp_path / "node1" / "wal"
    kept.mkdir(parents=True)
    result = run(str(BINARY), "demo", "--data", str(tmp_path))
    assert result.returncode == 1 and f"{tmp_path} is there, and not of an earlier tour" in result.stderr, result
    assert kept.exists()


def test_what_is_installed_runs(tmp_path):
    """DESTDIR and PREFIX are honoured, and the installed binary needs nothing of the build folder."""
    result = run("make", "install", f"DESTDIR={tmp_path}", "PREFIX=/opt/tutti")
    assert result.returncode == 0, result.stdout + result.stderr
    binary = tmp_path / "opt" / "tutti" / "bin" / "tutti"
    version = subprocess.run([str(binary), "version"], cwd=tmp_path, capture_output=True, text=True,
                             timeout=10, check=False)
    assert version.returncode == 0, version.stderr
    assert "tutti" in version.stdout
    tour = tmp_path / "opt" / "tutti" / "libexec" / "tutti" / "demo"
    help_of_tour = subprocess.run([str(tour), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert help_of_tour.returncode == 0, help_of_tour.stderr
    (tmp_path / "file").write_text("in the way")  # The tour is found, and begins: it cannot make its directory.
    begun = subprocess.run([str(binary), "demo", "--data", str(tmp_path / "file" / "demo")], capture_output=True, text=True,
                           timeout=30, check=False)
    assert begun.returncode == 1 and "make install" not in begun.stderr, begun.stderr


def test_every_target_that_people_type_is_listed():
    """`make help` names them; a target without a line there does not exist for anybody."""
    listed = run("make", "help").stdout
    for target in ("demo", "test", "check", "sim", "models", "chaos", "bench", "fuzz", "asan", "tsan", "format", "install", "help"):
        assert f"\n  {target} " in listed
