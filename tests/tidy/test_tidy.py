# SPDX-License-Identifier: Apache-2.0
"""Every rule of tools/tidy can go red: a small tree that breaks only this rule, and the line it names.

A rule that cannot fail defends nothing. Each sample is written over a good tree, which must be green."""
import pathlib
import re
import subprocess

import pytest

TIDY = pathlib.Path(__file__).resolve().parents[2] / "tools" / "tidy"
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def header(guard, body):
    return f"{SPDX}#ifndef {guard}\n#define {guard}\n\n{body}\n#endif\n"


GOOD = {
    "src/meson.build": "subdir('base')\n",
    "src/base/meson.build": "base_sources += files('list/list.c')\n",
    "src/base/list/list.h": header("BASE_LIST_LIST_H", "int list_length(void);\n"),
    "src/base/list/list.c": SPDX + '#include "base/list/list.h"\n\nint list_length(void)\n{\n    return 0;\n}\n',
    "src/core/raft/meson.build": "core_sources += files('raft.c')\n",
    "src/core/raft/raft.h": header("CORE_RAFT_RAFT_H", "int raft_step(void);\n"),
    "src/core/raft/raft_internal.h": header("CORE_RAFT_RAFT_INTERNAL_H", "int raft__vote(void);\n"),
    "src/core/raft/raft.c": SPDX + '#include "core/raft/raft.h"\n\n#include "base/list/list.h"\n'
                                   '#include "core/raft/raft_internal.h"\n\n'
                                   "int raft__vote(void)\n{\n    return 1;\n}\n\n"
                                   "int raft_step(void)\n{\n    return raft__vote() + list_length();\n}\n",
    "src/driver/os/meson.build": "driver_sources += files('os.c')\n",
    "src/driver/os/os.h": header("DRIVER_OS_OS_H", "int os_start(void);\n"),
    "src/driver/os/os.c": SPDX + '#include "driver/os/os.h"\n\n#include <time.h>\n#include <uv.h>\n\n'
                                 '#include "core/raft/raft.h"\n\n'
                                 "int os_start(void)\n{\n    return raft_step() + (int)time(NULL);\n}\n",
}
RAFT = "src/core/raft/raft.c"
OS = "src/driver/os/os.c"


SHARED = {"tests/shared/shared.h": header("TESTS_SHARED_SHARED_H", "int shared_run(void);\n")}


def appended(path, text):
    return {path: GOOD[path] + text}


def long_function(line_count, above=""):
    return above + "static int long_one(int x)\n{\n" + "    x++;\n" * (line_count - 4) + "    return x;\n}\n"


# rule: [(what replaces or joins the good tree, the place that must be named)]
BAD = {
    "function-length": [
        (appended(RAFT, long_function(71)), RAFT + ":16"),
        (appended(RAFT, 'extern "C" {\n' + long_function(71) + "}\n"), RAFT + ":17"),
    ],
    "file-length": [(appended(RAFT, "\n" * 800), RAFT + ":815")],
    "layers": [
        (appended(RAFT, '#include "driver/os/os.h"\n'), RAFT + ":16"),
        (appended(RAFT, '#include "raft.h"\n'), RAFT + ":16"),
        (appended(RAFT, '#include "core/none/none.h"\n'), RAFT + ":16"),
        (appended("src/base/list/list.c", '#include "core/raft/raft.h"\n'), "src/base/list/list.c:8"),
        ({**SHARED, **appended(RAFT, '#include "tests/shared/shared.h"\n')}, RAFT + ":16"),
        ({"src/core/raft/raft_test.c": SPDX + '#include "tests/shared/shared.h"\n'}, "src/core/raft/raft_test.c:2"),
    ],
    "public-header": [(appended(OS, '#include "core/raft/raft_internal.h"\n'), OS + ":13")],
    "private-symbols": [(appended(OS, "int raft__vote(void);\n"), OS + ":13")],
    "banned-calls": [
        (appended(OS, "static void f(char *t)\n{\n    sprintf(t, t);\n}\n"), OS + ":15"),
        (appended(OS, "static int g(char *t)\n{\n    return atoi (t);\n}\n"), OS + ":15"),
        (appended(OS, "#include <assert.h>\n"), OS + ":13"),
        (appended(OS, "void *h = malloc(5);\n"), OS + ":13"),
    ],
    "pure-sources": [(appended(RAFT, "#include <time.h>\n"), RAFT + ":16")],
    "third-party": [
        (appended(RAFT, "#include <uv.h>\n"), RAFT + ":16"),
        (appended(OS, "#include <curl/curl.h>\n"), OS + ":13"),
        (appended(OS, "#include <cmocka.h>\n"), OS + ":13"),
    ],
    "header-alone": [
        ({"src/core/raft/raft.h": header("CORE_RAFT_RAFT_H", "uint64_t raft_step(void);\n")},
         "src/core/raft/raft.h:1"),
    ],
    "include-guard": [
        ({"src/core/raft/raft.h": header("RAFT_H", "int raft_step(void);\n")}, "src/core/raft/raft.h:2"),
        (appended("src/core/raft/raft.h", "int raft_more(void);\n"), "src/core/raft/raft.h:8"),
        ({"src/core/raft/raft.h": SPDX + "#pragma once\nint raft_step(void);\n#endif\n"}, "src/core/raft/raft.h:2"),
    ],
    "spdx": [
        ({RAFT: "\n" + GOOD[RAFT]}, RAFT + ":1"),
        ({"tools/thing": "#!/bin/sh\necho\n"}, "tools/thing:1"),
    ],
    "leftovers": [
        (appended(RAFT, "/* FIXME */\n"), RAFT + ":16"),
        (appended(RAFT, "/* TODO: later */\n"), RAFT + ":16"),
        ({"docs/plan.md": "one\nXXX\n"}, "docs/plan.md:2"),
    ],
    "dead-files": [
        ({"src/core/raft/raft_old.c": SPDX}, "src/core/raft/raft_old.c:1"),
        ({"src/core/raft/raft_old.h": header("CORE_RAFT_RAFT_OLD_H", "int x(void);\n")},
         "src/core/raft/raft_old.h:1"),
    ],
    "dead-links": [({"docs/plan.md": "one\n[two](none/two.md#part)\n"}, "docs/plan.md:2")],
    "own-machine": [
        (appended(RAFT, '/* see /home/somebody/notes */\n'), RAFT + ":16"),
        ({"tests/test_a.py": "#!/usr/bin/env python3\n"}, "tests/test_a.py:1"),
    ],
}

# What looks like a violation and is none.
HARMLESS = {
    "function-length": [
        appended(RAFT, long_function(70)),
        appended(RAFT, long_function(90, "/* tidy: flat table: one line per command. */\n")),
        appended(RAFT, "static const int table[] = {\n" + "    1,\n" * 100 + "};\n"),
    ],
    "banned-calls": [
        appended(RAFT, '/* sprintf( is banned */\nstatic const char *text = "strcpy(";\n'),
        appended(OS, "int snprintf_count(int);\n"),
    ],
    "private-symbols": [appended(RAFT, "int raft__more(void);\nint x = __LINE__;\n")],
    "layers": [
        appended(OS, '#include "base/list/list.h"\n'),
        {**SHARED, "src/core/raft/raft_test.c": SPDX + '#include "tests/shared/shared.h"\n'},
    ],
    "leftovers": [appended(RAFT, "/* TODO(#12): later */\n")],
    "dead-links": [{"docs/a.md": "[b](b.md#x) [c](https://c.example/d.md) [e](#f) `[g](h)`\n", "docs/b.md": "\n"}],
    "own-machine": [appended(RAFT, "/* a/home/page, wal/work/x */\n")],
}


def write_tree(root, changes):
    for path, text in {**GOOD, **changes}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def run_tidy(root, rule):
    return subprocess.run([str(TIDY), "--root", str(root), "--rule", rule], capture_output=True, text=True,
                          check=False)


def rules():
    listed = subprocess.run([str(TIDY), "--list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


@pytest.mark.parametrize("rule", sorted(set(rules()) - {"pure-objects"}))
def test_a_good_tree_is_green(rule, tmp_path):
    write_tree(tmp_path, {})
    result = run_tidy(tmp_path, rule)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("rule,changes,place", [(rule, changes, place) for rule, samples in BAD.items()
                                                for changes, place in samples])
def test_a_bad_line_is_named(rule, changes, place, tmp_path):
    write_tree(tmp_path, changes)
    result = run_tidy(tmp_path, rule)
    assert result.returncode == 1, result.stdout + result.stderr
    named = [line for line in result.stdout.splitlines() if re.match(r"\S+:\d+: ", line)]
    assert [line.startswith(f"{place}: {rule}: ") for line in named] == [True], result.stdout


@pytest.mark.parametrize("rule,changes", [(rule, changes) for rule, samples in HARMLESS.items()
                                          for changes in samples])
def test_what_only_looks_bad_is_left_alone(rule, changes, tmp_path):
    write_tree(tmp_path, changes)
    result = run_tidy(tmp_path, rule)
    assert result.returncode == 0, result.stdout + result.stderr


IMPURE = {
    "time": "#include <time.h>\nint raft_step(void) { return (int)time(NULL); }\n",
    "rand": "#include <stdlib.h>\nint raft_step(void) { return rand(); }\n",
    "open": "#include <fcntl.h>\nint raft_step(void) { return open(\"x\", O_RDONLY); }\n",
    "socket": "#include <sys/socket.h>\nint raft_step(void) { return socket(1, 1, 0); }\n",
    "pthread_self": "#include <pthread.h>\nint raft_step(void) { return pthread_self() == 0; }\n",
    "getauxval": "unsigned long getauxval(unsigned long);\nint raft_step(void) { return (int)getauxval(1); }\n",
}


def build_core(root, body):
    write_tree(root, {RAFT: SPDX + body})
    library = root / "build" / "src"
    library.mkdir(parents=True)
    subprocess.run(["gcc", "-c", "-O1", "-o", str(root / "raft.o"), str(root / RAFT)], check=True)
    subprocess.run(["ar", "rcs", str(library / "libcore.a"), str(root / "raft.o")], check=True)


@pytest.mark.parametrize("symbol", IMPURE)
def test_a_core_that_reaches_the_world_is_caught_by_its_symbols(symbol, tmp_path):
    build_core(tmp_path, IMPURE[symbol])
    result = run_tidy(tmp_path, "pure-objects")
    assert result.returncode == 1
    assert f"raft.o refers to {symbol}: " in result.stdout


def test_a_core_may_compute(tmp_path):
    build_core(tmp_path, "#include <stdio.h>\n#include <string.h>\nint raft_step(void)\n"
                         "{ char t[9]; return snprintf(t, 9, \"%d\", (int)strlen(t)); }\n")
    result = run_tidy(tmp_path, "pure-objects")
    assert result.returncode == 0, result.stdout


def test_a_core_that_was_not_built_is_not_green(tmp_path):
    write_tree(tmp_path, {})
    assert run_tidy(tmp_path, "pure-objects").returncode == 1


def build_binary(root, prints):
    (root / "build").mkdir()
    binary = root / "build" / "tutti"
    binary.write_text(f"#!/bin/sh\nprintf '{prints}'\n", encoding="utf-8")
    binary.chmod(0o755)


@pytest.mark.parametrize("document,code", [("# Commands\n", 0), ("# Old\n", 1), (None, 1)])
def test_the_commands_document_is_compared_with_the_table(document, code, tmp_path):
    changes = {"src/service/kv/kv.h": header("SERVICE_KV_KV_H", "int kv_x(void);\n")}
    if document is not None:
        changes["docs/commands.md"] = document
    write_tree(tmp_path, changes)
    build_binary(tmp_path, "# Commands\\n")
    assert run_tidy(tmp_path, "generated-docs").returncode == code


def test_every_rule_has_a_sample_that_makes_it_red():
    assert set(rules()) == set(BAD) | {"pure-objects", "generated-docs"}
