/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: system_verify() accepts what system writes and tells each kind of damage by what is
 * wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "service/system/system_world.h"

static const char cluster[] = "0123456789abcdef0123456789abcdef";

/* Two nodes, a used token, four records. */
static void build(struct system__world *world)
{
    struct system_digest first = {{1}};
    struct system_digest second = {{2}};
    struct system_digest hash = {{9}};
    struct system_node_facts facts = {.peer = "h:1", .feature_max = 1, .key = &first};
    struct system_command command;
    uint64_t number;
    system__world_init(world, NULL);
    struct system_birth birth = {.cluster = cluster};
    system_bootstrap_command(&command, &birth, &facts);
    assert_int_equal(system_reply_number(system__world_run(world, &command), &number, NULL), 0);
    system_token_add_command(&command, &hash, 60000, 2);
    assert_int_equal(system_reply_number(system__world_run(world, &command), &number, NULL), 0);
    facts = (struct system_node_facts){.peer = "h:2", .feature_max = 1, .key = &second};
    system_join_command(&command, &hash, &facts);
    assert_int_equal(system_reply_number(system__world_run(world, &command), &number, NULL), 0);
    system_audit_command(&command, SYSTEM_AUDIT_TRANSFER, 1, "x");
    assert_int_equal(system_reply_number(system__world_run(world, &command), &number, NULL), 0);
}

static void write_row(struct system__world *world, enum env_change_kind kind, struct bytes key,
                      struct bytes value)
{
    struct env_store store = memstore_interface(world->store);
    struct env_change change = {.kind = kind, .key = key, .value = value};
    assert_int_equal(store.ops->write(store.context, &change, 1, NULL), 0);
}

static void expect(struct system__world *world, int status, const char *what)
{
    struct error error = {0};
    assert_int_equal(system_verify(memstore_interface(world->store), NULL, &error), status);
    if (status != 0 && strstr(error.message, what) == NULL) {
        fail_msg("`%s` is not `%s`", error.message, what);
    }
    system__world_deinit(world);
}

static void put_node(struct system__world *world, const struct system_node *node)
{
    struct system__row row;
    struct buffer value = {0};
    system__row_node(&row, node->id);
    system__node_encode(&value, node);
    write_row(world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    buffer_deinit(&value);
}

static void test_accepts(void **state)
{
    (void)state;
    struct system__world world;
    system__world_init(&world, NULL);
    expect(&world, 0, "");
    build(&world);
    expect(&world, 0, "");
}

static void test_nodes(void **state)
{
    (void)state;
    struct system__world world;
    struct system__row row;
    build(&world);
    struct system_node node = *system_node_find(world.system, 2);
    node.id = 3;
    put_node(&world, &node);
    expect(&world, ERROR_CORRUPT, "node 3 has an id that was not given");
    build(&world);
    node.id = 2;
    memcpy(node.peer, "h:1", sizeof "h:1");
    put_node(&world, &node);
    expect(&world, ERROR_CORRUPT, "nodes 1 and 2 have the same key or address");
    build(&world);
    memcpy(node.peer, "h:3", sizeof "h:3");
    node.key = system_node_find(world.system, 1)->key;
    put_node(&world, &node);
    expect(&world, ERROR_CORRUPT, "nodes 1 and 2 have the same key or address");
    build(&world);
    world.system->state.settings.feature = 2;
    struct buffer value = {0};
    system__settings_encode(&value, &world.system->state);
    system__row_settings(&row);
    write_row(&world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    buffer_deinit(&value);
    expect(&world, ERROR_CORRUPT, "node 1 does not know the agreed feature version");
    build(&world);
    for (uint32_t id = 1; id <= 2; id++) {
        node = *system_node_find(world.system, id);
        node.state = SYSTEM_NODE_REMOVED;
        put_node(&world, &node);
    }
    expect(&world, ERROR_CORRUPT, "0 of them active");
}

static void test_settings(void **state)
{
    (void)state;
    struct system__world world;
    struct system__row row;
    system__row_settings(&row);
    build(&world);
    write_row(&world, ENV_CHANGE_DELETE, row.key, BYTES(""));
    expect(&world, ERROR_CORRUPT, "rows of a cluster, but not its settings");
    build(&world);
    write_row(&world, ENV_CHANGE_PUT, row.key, BYTES("\x01"));
    expect(&world, ERROR_CORRUPT, "the settings cannot be read");
    build(&world);
    write_row(&world, ENV_CHANGE_PUT, row.key, BYTES("\x02"));
    expect(&world, ERROR_NEWER_FORMAT, "the settings");
    build(&world);
    write_row(&world, ENV_CHANGE_PUT, BYTES("\x02\x06"), BYTES("x"));
    expect(&world, ERROR_CORRUPT, "a row that the system does not write");
    build(&world);
    write_row(&world, ENV_CHANGE_PUT, BYTES("\x02"), BYTES("x"));
    expect(&world, ERROR_CORRUPT, "a row that the system does not write");
}

/* Four shards; then what one of them says is lost, or other than it was. */
static void build_shards_knowing(struct system__world *world, uint32_t feature)
{
    struct system_digest first = {{1}};
    struct system_node_facts facts = {.peer = "h:1", .feature_max = feature, .key = &first};
    struct system_birth birth = {.cluster = cluster, .shard_count = 4};
    struct system_command command;
    uint64_t number;
    system__world_init(world, NULL);
    system_bootstrap_command(&command, &birth, &facts);
    assert_int_equal(system_reply_number(system__world_run(world, &command), &number, NULL), 0);
}

static void build_shards(struct system__world *world)
{
    build_shards_knowing(world, SYSTEM_FEATURE_SHARDS);
}

static void test_shards(void **state)
{
    (void)state;
    struct system__world world;
    struct system__row row;
    struct buffer value = {0};
    build_shards(&world);
    assert_int_equal(system_slots(world.system)->range_count, 4);
    system__world_restart(&world);
    assert_int_equal(system_slots(world.system)->range_count, 4);
    assert_int_equal(system_slots(world.system)->ranges[3].first, 12288);
    expect(&world, 0, "");
    system__row_shard(&row, 2);
    build_shards(&world);
    write_row(&world, ENV_CHANGE_DELETE, row.key, BYTES(""));
    expect(&world, ERROR_CORRUPT, "the shards do not have each slot once");
    build_shards(&world);
    struct system__shard shard = {.range = {.shard = 2, .first = 4096, .end = 8193}};
    system__shard_encode(&value, &shard);
    write_row(&world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    expect(&world, ERROR_CORRUPT, "the shards do not have each slot once");
    build_shards(&world);
    write_row(&world, ENV_CHANGE_PUT, row.key, BYTES("\x01"));
    expect(&world, ERROR_CORRUPT, "a shard cannot be read");
    build_shards(&world);
    value.data[0] = 2;
    write_row(&world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    expect(&world, ERROR_CORRUPT, "a shard cannot be read");
    build_shards(&world);
    value.data[0] = 3;
    write_row(&world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    expect(&world, ERROR_NEWER_FORMAT, "a shard");
    build(&world);
    buffer_clear(&value);
    shard.range = (struct slots_range){.shard = 1, .end = SLOTS_COUNT};
    system__shard_encode(&value, &shard);
    system__row_shard(&row, 1);
    write_row(&world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    expect(&world, ERROR_CORRUPT, "in a cluster that does not know of them");
    buffer_deinit(&value);
}

static void put_planned(struct system__world *world, struct slots_range range)
{
    struct system__shard shard = {.range = range, .is_planned = true, .planned_at_ms = 1};
    struct system__row row;
    struct buffer value = {0};
    system__row_shard(&row, range.shard);
    system__shard_encode(&value, &shard);
    write_row(world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    buffer_deinit(&value);
}

/* Claim: what is planned is a part of a shard that there is, and of each shard one part only. */
static void test_planned(void **state)
{
    (void)state;
    static const char misfit[] = "a planned shard is no part of another one";
    static const struct slots_range misfits[] = {
        {5, 4096, 8192},        /* All of a shard, */
        {5, 5000, 8191},        /* not up to its end, */
        {5, 5000, 12288},       /* of two, */
        {5, SLOTS_COUNT, 8192}, /* or of none. */
        {5, UINT32_MAX, 8192},
    };
    struct system__world world;
    build_shards_knowing(&world, 3);
    put_planned(&world, (struct slots_range){5, 5000, 8192});
    put_planned(&world, (struct slots_range){6, 1, 4096});
    expect(&world, 0, "");
    for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++) {
        build_shards_knowing(&world, 3);
        put_planned(&world, misfits[i]);
        expect(&world, ERROR_CORRUPT, misfit);
    }
    build_shards_knowing(&world, 3);
    put_planned(&world, (struct slots_range){5, 5000, 8192});
    put_planned(&world, (struct slots_range){6, 6000, 8192});
    expect(&world, ERROR_CORRUPT, misfit);
    build_shards_knowing(&world, 3);
    put_planned(&world, (struct slots_range){2, 5000, 8192}); /* It took the row of a real one. */
    expect(&world, ERROR_CORRUPT, "the shards do not have each slot once");
    build_shards(&world);
    put_planned(&world, (struct slots_range){5, 5000, 8192});
    expect(&world, ERROR_CORRUPT, "a planned shard in a cluster that does not know of them");
    build(&world);
    put_planned(&world, (struct slots_range){2, 5000, SLOTS_COUNT});
    expect(&world, ERROR_CORRUPT, misfit);
    build_shards_knowing(&world, 3);
    for (uint32_t i = 0; i <= SLOTS_SHARD_COUNT_MAX - 4; i++) {
        put_planned(&world, (struct slots_range){5 + i, 100 + i, 4096});
    }
    expect(&world, ERROR_CORRUPT, "more than 16384 shards");
}

static void put_token(struct system__world *world, uint8_t number,
                      const struct system__token *token)
{
    struct system_digest hash = {{number}};
    struct system__row row;
    struct buffer value = {0};
    system__row_token(&row, &hash);
    system__token_encode(&value, token);
    write_row(world, ENV_CHANGE_PUT, row.key, buffer_bytes(&value));
    buffer_deinit(&value);
}

static void test_tokens(void **state)
{
    (void)state;
    struct system__world world;
    struct system__token token = {.token = {.uses = 2, .used_count = 1}, .uses = {{.node = 3}}};
    build(&world);
    put_token(&world, 1, &token);
    expect(&world, ERROR_CORRUPT, "a token gave an id that was not given");
    build(&world);
    token.token.used_count = 2;
    token.uses[0].node = 1;
    token.uses[1].node = 2;
    put_token(&world, 1, &token);
    expect(&world, ERROR_CORRUPT, "a token was used twice by node 2");
    build(&world);
    token.token.used_count = 0;
    for (uint32_t i = 10; i < 10 + SYSTEM_TOKEN_COUNT_MAX; i++) {
        put_token(&world, (uint8_t)i, &token);
    }
    expect(&world, ERROR_CORRUPT, "more than 100 tokens");
    build(&world);
    token.token.uses = 0;
    put_token(&world, 1, &token);
    expect(&world, ERROR_CORRUPT, "a token cannot be read");
}

static void test_records(void **state)
{
    (void)state;
    struct system__world world;
    struct system__row row;
    build(&world);
    system__row_audit(&row, 2);
    write_row(&world, ENV_CHANGE_DELETE, row.key, BYTES(""));
    expect(&world, ERROR_CORRUPT, "records before 3 are missing");
    build(&world);
    system__row_audit(&row, 4);
    write_row(&world, ENV_CHANGE_DELETE, row.key, BYTES(""));
    expect(&world, ERROR_CORRUPT, "3 records up to 3, not 4 up to 4");
    build(&world);
    write_row(&world, ENV_CHANGE_PUT, row.key, BYTES("\x01\x00"));
    expect(&world, ERROR_CORRUPT, "a record cannot be read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),  cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_settings), cmocka_unit_test(test_shards),
        cmocka_unit_test(test_planned),  cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
