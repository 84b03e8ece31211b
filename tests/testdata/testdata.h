/* SPDX-License-Identifier: Apache-2.0 */
/* Data-driven tests: files of text beside a module, in which commands are followed by what they did.
 *
 *   # A comment.
 *   command
 *   another command
 *   ----
 *   what happened
 *   and what else
 *
 *   command of the next block
 *   ----
 *
 * A block is commands, "----", and what is expected, up to an empty line. Empty lines and comments
 * between commands are allowed; commands without a "----" fail. Files run in the order of their
 * names. What happened in place of what was expected fails the test with the first line that
 * differs; with UPDATE=1 in the environment it is written into the file instead.
 *
 * For unit tests only, with cmocka. The folder is below that in which tests run, the root of the tree. */
#ifndef TESTS_TESTDATA_TESTDATA_H
#define TESTS_TESTDATA_TESTDATA_H

#include <stdbool.h>

#include "base/bytes/bytes.h"

struct testdata {
    const char *folder; /* Its files *.txt; there has to be one. */
    void *scene;        /* Of the test; given to each function. */
    bool is_kept;       /* A scene lasts for a file; otherwise each block has its own. */

    /* A scene begins, with the first command, in this file. */
    void (*begin)(void *scene, const char *path);
    /* A command: neither empty nor a comment, without its line's end. */
    void (*run)(void *scene, const char *line);
    /* A block is over: append what happened in it. Called while the scene lasts. */
    void (*show)(void *scene, struct buffer *output);
    void (*end)(void *scene);
};

void testdata_run(const struct testdata *testdata);

#endif
