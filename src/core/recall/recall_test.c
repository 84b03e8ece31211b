/* SPDX-License-Identifier: Apache-2.0 */
#include "core/recall/recall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory/memory.h"

static raft_index first_needed(void *context, wal_shard shard)
{
    (void)shard;
    return context != NULL ? *(raft_index *)context : 1;
}

static void note(struct recall *recall, wal_shard shard, raft_index index, raft_term term,
                 const char *found)
{
    struct recall_entry entry = {.shard = shard,
                                 .index = index,
                                 .term = term,
                                 .digest = index * 100 + term,
                                 .found = bytes_make(found, strlen(found))};
    recall_note(recall, &entry);
}

/* What is known of an entry with so many commands; "" if nothing is. */
static struct bytes find(struct recall *recall, wal_shard shard, raft_index index, raft_term term,
                         size_t count)
{
    struct recall_entry entry = {
        .shard = shard, .index = index, .term = term, .found = {.size_bytes = count}};
    if (!recall_find(recall, &entry)) {
        return BYTES("");
    }
    assert_int_equal(entry.digest, index * 100 + term);
    return entry.found;
}

#define assert_found(found, text) assert_true(bytes_equal((found), BYTES(text)))

/* A file of two groups of number 3. */
static struct buffer make_file(size_t *first_size_bytes)
{
    struct buffer file = {0};
    struct recall *recall = recall_create();
    note(recall, 1, 7, 2, "ab");
    note(recall, 2, 7, 2, "c");
    recall_take(recall, 3, &file);
    *first_size_bytes = file.size_bytes;
    note(recall, 1, 8, 2, "defg");
    recall_take(recall, 3, &file);
    recall_destroy(recall);
    return file;
}

/* What was noted of an entry is found again, and of no other entry. */
static void finds_what_was_noted(void **state)
{
    (void)state;
    size_t first_size_bytes;
    struct buffer file = make_file(&first_size_bytes);
    struct recall *recall = recall_create();
    assert_int_equal(recall_file_number(buffer_bytes(&file)), 3);
    assert_int_equal(recall_load(recall, buffer_bytes(&file), first_needed, NULL), file.size_bytes);
    assert_found(find(recall, 1, 7, 2, 2), "ab");
    assert_found(find(recall, 2, 7, 2, 1), "c");
    assert_found(find(recall, 1, 8, 2, 4), "defg");
    assert_found(find(recall, 1, 8, 3, 4), ""); /* Another entry was there. */
    assert_found(find(recall, 1, 8, 2, 3), ""); /* It had not so many commands. */
    assert_found(find(recall, 3, 7, 2, 2), "");
    assert_found(find(recall, 1, 9, 2, 4), "");
    recall_forget(recall);
    assert_found(find(recall, 1, 7, 2, 2), "");
    buffer_deinit(&file);
    recall_destroy(recall);
}

/* Of a file that ends in the middle, or is damaged, the groups before that are believed, and no
 * other. */
static void believes_whole_groups_only(void **state)
{
    (void)state;
    size_t first_size_bytes;
    struct buffer file = make_file(&first_size_bytes);
    for (size_t size_bytes = 0; size_bytes < file.size_bytes; size_bytes++) {
        struct recall *recall = recall_create();
        size_t expected_bytes = size_bytes < first_size_bytes ? 0 : first_size_bytes;
        assert_int_equal(recall_load(recall, bytes_make(file.data, size_bytes), first_needed, NULL),
                         expected_bytes);
        assert_int_equal(find(recall, 1, 7, 2, 2).size_bytes, expected_bytes > 0 ? 2 : 0);
        assert_found(find(recall, 1, 8, 2, 4), "");
        recall_destroy(recall);
    }
    for (size_t place = 0; place < file.size_bytes; place++) {
        struct recall *recall = recall_create();
        file.data[place] ^= 0x10;
        size_t loaded_bytes = recall_load(recall, buffer_bytes(&file), first_needed, NULL);
        assert_int_equal(loaded_bytes, place < first_size_bytes ? 0 : first_size_bytes);
        file.data[place] ^= 0x10;
        recall_destroy(recall);
    }
    buffer_deinit(&file);
}

/* Behind the groups of a file may be some of an earlier use; they are not its own. */
static void stops_at_another_file(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct recall *recall = recall_create();
    note(recall, 1, 7, 2, "a");
    recall_take(recall, 5, &file);
    size_t own_bytes = file.size_bytes;
    note(recall, 1, 8, 2, "b");
    recall_take(recall, 3, &file);
    assert_int_equal(recall_load(recall, buffer_bytes(&file), first_needed, NULL), own_bytes);
    assert_found(find(recall, 1, 8, 2, 1), "");
    buffer_deinit(&file);
    recall_destroy(recall);
}

/* What was loaded later is believed: an entry that was executed twice was noted twice, the second
 * time perhaps on another state. */
static void prefers_the_newest(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct recall *recall = recall_create();
    note(recall, 1, 7, 2, "a");
    note(recall, 1, 8, 2, "b");
    note(recall, 1, 7, 3, "c");
    note(recall, 1, 7, 2, "d");
    recall_take(recall, 1, &file);
    assert_int_equal(recall_load(recall, buffer_bytes(&file), first_needed, NULL), file.size_bytes);
    assert_found(find(recall, 1, 7, 2, 1), "d");
    assert_found(find(recall, 1, 7, 3, 1), "c");
    assert_found(find(recall, 1, 8, 2, 1), "b");
    buffer_deinit(&file);
    recall_destroy(recall);
}

/* What the store has is not loaded; it is most of what the files have. */
static void leaves_out_what_is_not_needed(void **state)
{
    (void)state;
    size_t first_size_bytes;
    struct buffer file = make_file(&first_size_bytes);
    struct recall *recall = recall_create();
    raft_index first_index = 8;
    assert_int_equal(recall_load(recall, buffer_bytes(&file), first_needed, &first_index),
                     file.size_bytes);
    assert_found(find(recall, 1, 7, 2, 2), "");
    assert_found(find(recall, 1, 8, 2, 4), "defg");
    buffer_deinit(&file);
    recall_destroy(recall);
}

/* Entries of which nothing is known take no room, and what is never taken has a bound. */
static void notes_nothing_in_vain(void **state)
{
    (void)state;
    struct recall *recall = recall_create();
    struct bytes zeros = bytes_make((const uint8_t[3]){0}, 3);
    recall_note(recall, &(struct recall_entry){.shard = 1, .index = 1, .term = 1, .found = zeros});
    assert_int_equal(recall_gathered_size_bytes(recall), 0);
    struct buffer file = {0};
    recall_take(recall, 1, &file);
    assert_int_equal(file.size_bytes, 0);
    for (raft_index index = 1; index < 20000; index++) {
        note(recall, 1, index, 1, "x");
    }
    assert_true(recall_gathered_size_bytes(recall) > RECALL_GATHERED_SIZE_BYTES_MAX / 2);
    assert_true(recall_gathered_size_bytes(recall) <= RECALL_GATHERED_SIZE_BYTES_MAX + 16);
    recall_destroy(recall);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_noted),
        cmocka_unit_test(believes_whole_groups_only),
        cmocka_unit_test(stops_at_another_file),
        cmocka_unit_test(prefers_the_newest),
        cmocka_unit_test(leaves_out_what_is_not_needed),
        cmocka_unit_test(notes_nothing_in_vain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
