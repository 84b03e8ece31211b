/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: commands are found by their names in any case, in order, and their opcodes are those that
 * docs/formats/entry.md promises for ever. UPDATE=1 rewrites its table (to add to it). */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "service/kv/kv_internal.h"

static const char document_path[] = "docs/formats/entry.md";
static const char table_head[] = "| opcode | command |\n|---|---|\n";

static void test_names_are_found_in_any_case(void **state)
{
    (void)state;
    assert_true(kv_command_count() > 50);
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        const struct kv_command *command = kv_command_at(i);
        char name[64];
        size_t size = strlen(command->name);
        for (size_t place = 0; place <= size; place++) {
            name[place] =
                (char)(place % 2 == 0 ? toupper(command->name[place]) : command->name[place]);
        }
        assert_ptr_equal(kv_command_find(bytes_make(name, size)), command);
        assert_ptr_not_equal(kv_command_find(bytes_make(name, size - 1)), command);
        name[size] = 'x';
        assert_ptr_not_equal(kv_command_find(bytes_make(name, size + 1)), command);
        if (i > 0) {
            assert_true(strcmp(kv_command_at(i - 1)->name, command->name) < 0);
        }
    }
}

static void test_what_is_no_name_is_not_found(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", "g", "ge", "gett", "transaction", "versions", "G\x05T", "averyverylongcommandname"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_null(kv_command_find(bytes_of_text(names[i])));
    }
    assert_null(kv_command_find(bytes_make(NULL, 0)));
    assert_null(kv_command_find(BYTES("get\0")));
}

static void test_what_the_table_says_is_complete(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        const struct kv_command *command = kv_command_at(i);
        assert_true(command->summary[0] != '\0' && command->since[0] != '\0');
        assert_true(command->complexity[0] != '\0' && command->arity != 0);
        bool is_read = (command->flags & KV_FLAG_READ) != 0;
        bool is_write = (command->flags & KV_FLAG_WRITE) != 0;
        assert_int_equal(is_read + is_write, 1);
        assert_true(command->opcode != 0 && (command->flags & KV_FLAG_CONNECTION) == 0);
        assert_true(is_write || (command->flags & KV_FLAG_GROWS) == 0);
        assert_true(kv_family_name(command->family)[0] != '\0');
    }
}

static void test_arity_fits(void **state)
{
    (void)state;
    const struct kv_command *get = kv_command_find(BYTES("get"));
    const struct kv_command *set = kv_command_find(BYTES("set"));
    assert_true(kv_command_arity_fits(get, 2));
    assert_false(kv_command_arity_fits(get, 1) || kv_command_arity_fits(get, 3));
    assert_true(kv_command_arity_fits(set, 3) && kv_command_arity_fits(set, UINT64_MAX));
    assert_false(kv_command_arity_fits(set, 2));
}

static void test_slots_are_those_of_redis_cluster(void **state)
{
    (void)state;
    assert_int_equal(kv_slot_of_key(BYTES("123456789")), 12739);
    assert_int_equal(kv_slot_of_key(BYTES("foo")), 12182);
    assert_int_equal(kv_slot_of_key(BYTES("")), 0);
    /* Only what is between the first braces counts, and only if it is not empty. */
    assert_int_equal(kv_slot_of_key(BYTES("{foo}bar")), 12182);
    assert_int_equal(kv_slot_of_key(BYTES("x{foo}{bar}")), 12182);
    assert_int_not_equal(kv_slot_of_key(BYTES("{}foo")), 12182);
    assert_int_not_equal(kv_slot_of_key(BYTES("{foo")), 12182);
}

static struct buffer read_document(void)
{
    struct buffer content = {0};
    FILE *file = fopen(document_path, "r");
    assert_non_null(file);
    int byte;
    while ((byte = fgetc(file)) != EOF) {
        buffer_append_byte(&content, (uint8_t)byte);
    }
    (void)fclose(file);
    buffer_append_byte(&content, '\0');
    return content;
}

static void write_table(struct buffer *table)
{
    for (uint16_t opcode = 1; opcode < KV_OPCODE_COUNT; opcode++) {
        const struct kv__entry *entry = kv__entry_of_opcode(opcode);
        if (entry == NULL) {
            continue;
        }
        buffer_append_format(table, "| %u | ", opcode);
        for (const char *letter = entry->command.name; *letter != '\0'; letter++) {
            buffer_append_byte(table, (uint8_t)toupper(*letter));
        }
        bool is_internal = (entry->command.flags & KV_FLAG_INTERNAL) != 0;
        buffer_append(table, is_internal ? BYTES(" (internal) |\n") : BYTES(" |\n"));
    }
    buffer_append_byte(table, '\0');
}

static void test_opcodes_are_those_of_the_document(void **state)
{
    (void)state;
    struct buffer document = read_document();
    struct buffer table = {0};
    write_table(&table);
    char *start = strstr((char *)document.data, table_head);
    assert_non_null(start);
    start += strlen(table_head);
    char *end = start;
    while (*end == '|') {
        end += strcspn(end, "\n") + 1;
    }
    bool is_equal = bytes_equal(bytes_make(start, (size_t)(end - start)),
                                bytes_make(table.data, table.size_bytes - 1));
    const char *update = getenv("UPDATE");
    if (!is_equal && update != NULL && strcmp(update, "1") == 0) {
        FILE *file = fopen(document_path, "w");
        assert_non_null(file);
        (void)fprintf(file, "%.*s%s%s", (int)(start - (char *)document.data), (char *)document.data,
                      (char *)table.data, end);
        assert_int_equal(fclose(file), 0);
    } else if (!is_equal) {
        fail_msg("%s does not have the opcodes of the tables:\n%s", document_path,
                 (char *)table.data);
    }
    buffer_deinit(&document);
    buffer_deinit(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_found_in_any_case),
        cmocka_unit_test(test_what_is_no_name_is_not_found),
        cmocka_unit_test(test_what_the_table_says_is_complete),
        cmocka_unit_test(test_arity_fits),
        cmocka_unit_test(test_slots_are_those_of_redis_cluster),
        cmocka_unit_test(test_opcodes_are_those_of_the_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
