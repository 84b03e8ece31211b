# SPDX-License-Identifier: Apache-2.0
"""tools/shrink finds the least that fails, against a simulator that fails when it is known to."""
import subprocess
import sys

import pytest

from harness import ROOT

SIMULATOR = '''#!/usr/bin/python3
import sys
nature = {{"node_count": 5, "client_count": 8, "request_count": 900, "kill_every_us": 70000, "pause_every_us": 5000,
          "power_percent": 30, "disk_us": 70, "does_cache_lie": 1, "faults.busy_percent": 3}}
arguments = sys.argv[1:]
options = dict(zip(arguments, arguments[1:]))
if "--nature" in arguments:
    print("\\n".join(f"{{name}}={{value}}" for name, value in nature.items()))
    sys.exit(0)
for setting in filter(None, options.get("--set", "").split(",")):
    name, value = setting.split("=")
    nature[name] = int(value)
stream = int(options.get("--stream", "0"))
print("what happens in it")
if {claim}:
    print("failed: node 3 has lost entry 77")
    sys.exit(1)
if nature["node_count"] < 3:
    print("failed: no progress")
    sys.exit(1)
'''


def shrink(tmp_path, claim, *options):
    simulator = tmp_path / "simulator"
    simulator.write_text(SIMULATOR.format(claim=claim), encoding="utf-8")
    simulator.chmod(0o755)
    return subprocess.run([sys.executable, ROOT / "tools" / "shrink", "--seed", "7", "--simulator", simulator, "--trace-file",
                           tmp_path / "trace.txt", *options], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("claim, least", [
    ("nature['pause_every_us'] > 0", {"node_count": "1", "client_count": "1", "request_count": "1", "kill_every_us": "0",
                                      "power_percent": "0", "does_cache_lie": "0", "faults.busy_percent": "0"}),
    # What fails in another way does not count, nor what needs more.
    ("nature['node_count'] > 3 and nature['request_count'] >= 57 and nature['kill_every_us'] and nature['does_cache_lie']",
     {"node_count": "4", "client_count": "1", "request_count": "57", "pause_every_us": "0", "power_percent": "0",
      "faults.busy_percent": "0"}),
    # Where it takes other things to happen, they are looked for.
    ("nature['client_count'] > 2 and (nature['kill_every_us'] or stream == 5)",
     {"node_count": "1", "client_count": "3", "request_count": "1", "kill_every_us": "0", "pause_every_us": "0",
      "power_percent": "0", "does_cache_lie": "0", "faults.busy_percent": "0"}),
])
def test_the_least_that_fails(tmp_path, claim, least):
    run = shrink(tmp_path, claim)
    assert run.returncode == 0, run.stdout + run.stderr
    again = run.stdout.strip().split("\n")[-1]
    assert again.startswith("again: ")
    command = again.removeprefix("again: ").split()
    assert dict(setting.split("=") for setting in command[command.index("--set") + 1].split(",")) == least
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    assert "what happens in it" in (tmp_path / "trace.txt").read_text(encoding="utf-8")


def test_a_seed_that_does_not_fail(tmp_path):
    run = shrink(tmp_path, "False")
    assert (run.returncode, run.stdout) == (1, "seed 7 does not fail\n")


def test_the_simulator_itself(tmp_path):
    """It takes what tools/shrink says, and refuses what is wrong."""
    simulator = ROOT / "build" / "tutti-sim"
    for kind in ([], ["--cluster"]):
        nature = subprocess.run([simulator, *kind, "--seed", "4", "--nature"], capture_output=True, text=True, check=True).stdout
        assert "\nrequest_count=" in nature
        run = subprocess.run([simulator, *kind, "--seed", "4", "--set", "request_count=7,kill_every_us=0,client_count=1",
                              "--stream", "3", "--trace"], capture_output=True, text=True, check=True)
        assert "\nrequest_count=7\n" in run.stdout and "\nkill_every_us=0\n" in run.stdout
        again = subprocess.run(run.args, capture_output=True, text=True, check=True)
        assert again.stdout == run.stdout
        wrong = subprocess.run([simulator, *kind, "--seed", "4", "--set", "kills=0"], capture_output=True, text=True, check=False)
        assert (wrong.returncode, wrong.stdout) == (2, "") and "there is nothing called kills" in wrong.stderr
    run = subprocess.run([sys.executable, ROOT / "tools" / "shrink", "--seed", "4", "--simulator", tmp_path / "none"],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 2 and "is missing" in run.stderr
