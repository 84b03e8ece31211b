/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/testdata/testdata.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FILE_COUNT_MAX = 256, PATH_SIZE_MAX = 512 };

/* Where a file is. */
struct reader {
    const struct testdata *testdata;
    const char *path;
    bool is_begun;       /* There is a scene. */
    bool is_open;        /* Commands have run, and no ---- has come. */
    bool is_expectation; /* What the commands are expected to have done. */
    struct buffer rewritten;
};

static void end_scene(struct reader *reader)
{
    if (reader->is_begun) {
        reader->testdata->end(reader->testdata->scene);
        reader->is_begun = false;
    }
}

static void end_block(struct reader *reader)
{
    buffer_append(&reader->rewritten, BYTES("----\n"));
    if (reader->is_open) {
        reader->testdata->show(reader->testdata->scene, &reader->rewritten);
    }
    reader->is_open = false;
    reader->is_expectation = true;
    if (!reader->testdata->is_kept) {
        end_scene(reader);
    }
}

static void run(struct reader *reader, const char *line)
{
    if (!reader->is_begun) {
        reader->testdata->begin(reader->testdata->scene, reader->path);
        reader->is_begun = true;
    }
    reader->is_open = true;
    reader->testdata->run(reader->testdata->scene, line);
}

static void read_line(struct reader *reader, const char *line)
{
    if (strcmp(line, "----") == 0) {
        end_block(reader);
    } else if (line[0] == '\0') {
        buffer_append_byte(&reader->rewritten, '\n');
        reader->is_expectation = false;
    } else if (!reader->is_expectation) {
        buffer_append_format(&reader->rewritten, "%s\n", line);
        if (line[0] != '#') {
            run(reader, line);
        }
    }
}

/* Put what happened in place of what was expected. */
static struct buffer rewrite(const struct testdata *testdata, const char *path, const char *text)
{
    struct reader reader = {.testdata = testdata, .path = path};
    struct buffer line = {0};
    while (*text != '\0') {
        size_t size = strcspn(text, "\n");
        buffer_clear(&line);
        buffer_append(&line, bytes_make(text, size));
        buffer_append_byte(&line, '\0');
        read_line(&reader, (const char *)line.data);
        text += size + (text[size] == '\n');
    }
    if (reader.is_open) {
        fail_msg("%s: its last commands have no ----", path);
    }
    end_scene(&reader);
    buffer_deinit(&line);
    return reader.rewritten;
}

/* With a 0 behind it. */
static struct buffer read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    struct buffer content = {0};
    char part[4096];
    size_t size;
    while ((size = fread(part, 1, sizeof part, file)) > 0) {
        buffer_append(&content, bytes_make(part, size));
    }
    (void)fclose(file);
    buffer_append_byte(&content, '\0');
    return content;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void fail_where_they_differ(const char *path, const char *expected, const char *got)
{
    size_t line_start = 0;
    uint32_t line_number = 1;
    for (size_t i = 0; got[i] != '\0' && got[i] == expected[i]; i++) {
        if (got[i] == '\n') {
            line_number++;
            line_start = i + 1;
        }
    }
    got += line_start;
    expected += line_start;
    fail_msg("%s:%u: got `%.*s`, expected `%.*s`", path, line_number, (int)strcspn(got, "\n"), got,
             (int)strcspn(expected, "\n"), expected);
}

static void run_file(const struct testdata *testdata, const char *path)
{
    struct buffer content = read_file(path);
    const char *text = (const char *)content.data;
    struct buffer rewritten = rewrite(testdata, path, text);
    buffer_append_byte(&rewritten, '\0');
    const char *got = (const char *)rewritten.data;
    if (strcmp(text, got) != 0) {
        const char *update = getenv("UPDATE");
        if (update != NULL && strcmp(update, "1") == 0) {
            write_file(path, got);
        } else {
            fail_where_they_differ(path, text, got);
        }
    }
    buffer_deinit(&rewritten);
    buffer_deinit(&content);
}

static int by_name(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

void testdata_run(const struct testdata *testdata)
{
    char *names[FILE_COUNT_MAX];
    size_t count = 0;
    DIR *directory = opendir(testdata->folder);
    assert_non_null(directory);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        const char *suffix = strrchr(entry->d_name, '.');
        if (suffix != NULL && strcmp(suffix, ".txt") == 0) {
            assert_true(count < FILE_COUNT_MAX);
            names[count++] = strdup(entry->d_name);
        }
    }
    (void)closedir(directory);
    assert_true(count > 0);
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_SIZE_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", testdata->folder, names[i]);
        run_file(testdata, path);
        free(names[i]);
    }
}
