/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/endian/endian.h"
#include "base/random/random.h"
#include "service/kv/kv.h"
#include "service/system/system_world.h"

static const char cluster[] = "0123456789abcdef0123456789abcdef";

static struct system_digest digest_of(uint64_t number)
{
    struct system_digest digest = {{0}};
    endian_put_u64_be(digest.bytes + 24, number);
    return digest;
}

static void bootstrap_with(struct system__world *world, uint32_t feature)
{
    struct system_digest key = digest_of(1);
    struct system_node_facts facts = {.peer = "h:1", .feature_max = feature, .key = &key};
    struct system_command command;
    struct system_birth birth = {.cluster = cluster};
    system_bootstrap_command(&command, &birth, &facts);
    uint64_t id = 0;
    assert_int_equal(system_reply_number(system__world_run(world, &command), &id, NULL), 0);
    assert_int_equal(id, 1);
}

static void bootstrap(struct system__world *world)
{
    bootstrap_with(world, 1);
}

static int run_number(struct system__world *world, const struct system_command *command,
                      uint64_t *number)
{
    return system_reply_number(system__world_run(world, command), number, NULL);
}

static int kv_say(struct system__world *world, const char *name, const char *first,
                  const char *second)
{
    const struct bytes arguments[] = {bytes_of_text(first), bytes_of_text(second)};
    const struct shard_command command = {
        .opcode = kv_command_find(bytes_of_text(name))->opcode,
        .argument_count = second[0] != '\0' ? 2 : 1,
        .arguments = arguments,
    };
    assert_int_equal(
        world->machine.prefetch(world->machine.context, world->rows, &command, &(uint64_t){0}), 0);
    assert_int_equal(world->machine.slot_of(world->machine.context, &command, 0),
                     kv_slot_of_key(arguments[0]));
    return system__world_execute(world, &command);
}

/* Claim: commands of the data go to its machine, and so do its state, in the form that it always
 * had: a store without a cluster gets one, and what has one is read without this module. */
static void test_over_data(void **state)
{
    (void)state;
    struct system__world world;
    struct kv *kv = kv_create();
    struct kv_statistics statistics;
    struct shard_machine data = kv_machine(kv);
    struct buffer saved = {0};
    system__world_init(&world, &data);
    assert_int_equal(kv_say(&world, "set", "k", "v"), 0);
    assert_true(bytes_equal(buffer_bytes(&world.answer), BYTES("+OK\r\n")));
    bootstrap(&world);
    assert_int_equal(kv_say(&world, "set", "k2", "v"), 0);
    assert_int_equal(kv_say(&world, "get", "k", ""), 0);
    assert_true(bytes_equal(buffer_bytes(&world.answer), BYTES("$1\r\nv\r\n")));

    data.save(data.context, &saved);
    system__world_restart(&world);
    assert_true(bytes_equal(buffer_bytes(&saved), buffer_bytes(&world.saved)));
    assert_int_equal(kv_say(&world, "get", "k2", ""), 0);
    assert_true(bytes_equal(buffer_bytes(&world.answer), BYTES("$1\r\nv\r\n")));

    struct kv *alone = kv_create();
    struct shard_machine machine = kv_machine(alone);
    assert_int_equal(machine.load(machine.context, world.rows, buffer_bytes(&saved), NULL), 0);
    kv_get_statistics(alone, &statistics);
    assert_int_equal(statistics.key_count, 2);
    assert_int_equal(kv_verify(memstore_interface(world.store), NULL, 2, NULL), 0);
    kv_destroy(alone);
    buffer_deinit(&saved);
    system__world_deinit(&world);
    kv_destroy(kv);
}

/* Claim: opcodes that nobody has are those of a newer version, and EXEC is no way to this module. */
static void test_foreign_opcodes(void **state)
{
    (void)state;
    struct system__world world;
    struct kv *kv = kv_create();
    struct shard_machine data = kv_machine(kv);
    system__world_init(&world, &data);
    bootstrap(&world);
    static const uint16_t opcodes[] = {900, 1999, 2010, 2099, 2100, 65535};
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        const struct shard_command command = {.opcode = opcodes[i]};
        assert_int_equal(system__world_execute(&world, &command), ERROR_NEWER_FORMAT);
    }
    struct kv_transaction *transaction = kv_transaction_create();
    struct kv_command forged = *kv_command_find(BYTES("del"));
    const struct bytes arguments[] = {BYTES("x")};
    bool does_grow;
    forged.opcode = SYSTEM_OPCODE_TOKENADD;
    kv_transaction_add(transaction, &forged, arguments, 1);
    uint64_t digest = rows_digest(world.rows);
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    assert_int_equal(system__world_execute(&world, &command), 0);
    assert_int_equal(world.answer.data[0], '-');
    assert_int_equal(rows_digest(world.rows), digest);
    kv_transaction_destroy(transaction);
    system__world_deinit(&world);
    kv_destroy(kv);

    system__world_init(&world, NULL);
    const struct shard_command get = {.opcode = kv_command_find(BYTES("get"))->opcode};
    assert_int_equal(system__world_execute(&world, &get), ERROR_NEWER_FORMAT);
    system__world_deinit(&world);
}

/* Claim: of a split, which older software would not understand, the leader says so before a log has it;
 * it may have it when all nodes know what a split is. */
static void test_a_split_is_not_logged_for_older_software(void **state)
{
    (void)state;
    struct system__world world;
    struct kv *kv = kv_create();
    struct shard_machine data = kv_machine(kv);
    struct system_command command;
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    struct error error = {0};
    uint64_t number = 0;
    system__world_init(&world, &data);
    const struct shard_machine *machine = &world.machine;
    system_split_command(&command, 8192);
    assert_int_equal(machine->slot_of(machine->context, &command.command, 0), -1); /* No key's. */
    assert_false(machine->must_wait(machine->context, &command.command)); /* No cluster: refused. */
    bootstrap_with(&world, 2);
    assert_true(machine->must_wait(machine->context, &command.command));
    assert_true(machine->declines(machine->context, &command.command, &reply));
    assert_int_equal(system_reply_number(buffer_bytes(&answer), &number, &error), -EPERM);
    assert_non_null(strstr(error.message, "node 1 has software that knows feature version 2"));
    system_split_done_command(&command, 2);
    assert_true(machine->must_wait(machine->context, &command.command));
    system_setting_command(&command, 5, 0);
    assert_false(machine->must_wait(machine->context, &command.command));
    system_node_set_command(&command, 1, &(struct system_node_facts){.feature_max = 3});
    assert_int_equal(run_number(&world, &command, &number), 0);
    system_split_command(&command, 8192);
    assert_false(machine->must_wait(machine->context, &command.command));
    assert_int_equal(run_number(&world, &command, &number), 0);
    assert_int_equal(number, 2);
    assert_int_equal(system_settings(world.system)->feature, 3);
    buffer_deinit(&answer);
    system__world_deinit(&world);
    kv_destroy(kv);
}

/* Claim: a planned split is told with its parent and its child, and is part of the map when it is
 * done. */
static void test_split(void **state)
{
    (void)state;
    struct system__world world;
    struct system_command command;
    struct system_planned planned;
    uint64_t number = 0;
    system__world_init(&world, NULL);
    bootstrap_with(&world, 3);
    assert_int_equal(system_planned_count(world.system), 0);
    system_split_command(&command, 4096);
    assert_int_equal(run_number(&world, &command, &number), 0);
    assert_int_equal(number, 2);
    system__world_restart(&world);
    assert_int_equal(system_planned_count(world.system), 1);
    system_planned_at(world.system, 0, &planned);
    assert_int_equal(planned.parent, 1);
    assert_int_equal(planned.child, 2);
    assert_int_equal(planned.first, 4096);
    assert_int_equal(planned.planned_at_ms, world.time_ms);
    assert_int_equal(system_slots(world.system)->range_count, 1);
    system_split_done_command(&command, 2);
    assert_int_equal(run_number(&world, &command, &number), 0);
    assert_int_equal(number, 1);
    system__world_restart(&world);
    assert_int_equal(system_planned_count(world.system), 0);
    assert_int_equal(system_slots(world.system)->range_count, 2);
    assert_int_equal(slots_shard_of(system_slots(world.system), 4096), 2);
    assert_int_equal(slots_shard_of(system_slots(world.system), 4095), 1);
    system__world_deinit(&world);
}

/* Claim: expired tokens and expired keys are both removed in the background. */
static void test_background(void **state)
{
    (void)state;
    struct system__world world;
    struct kv *kv = kv_create();
    struct kv_statistics statistics;
    struct shard_machine data = kv_machine(kv);
    struct system_digest hash = digest_of(7);
    struct system_command command;
    uint64_t number;
    system__world_init(&world, &data);
    bootstrap(&world);
    system_token_add_command(&command, &hash, 500, 1);
    assert_int_equal(run_number(&world, &command, &number), 0);
    assert_int_equal(number, world.time_ms + 500);
    assert_int_equal(kv_say(&world, "set", "k", "v"), 0);
    assert_int_equal(kv_say(&world, "pexpire", "k", "500"), 0);
    assert_false(system__world_background(&world));
    world.time_ms += 500;
    uint32_t count = 0;
    while (system__world_background(&world)) {
        assert_true(++count < 10);
    }
    kv_get_statistics(kv, &statistics);
    assert_int_equal(statistics.key_count, 0);
    struct system_tokens tokens;
    system_tokens_command(&command);
    assert_int_equal(system_reply_tokens(system__world_run(&world, &command), &tokens, NULL), 0);
    assert_int_equal(tokens.token_count, 0);
    system_tokens_deinit(&tokens);
    system__world_deinit(&world);
    kv_destroy(kv);
}

/* Claim: the range and a split are those of the data; the rows of the cluster stay with the parent. */
static void test_split_of_the_data(void **state)
{
    (void)state;
    struct system__world world;
    struct kv *kv = kv_create();
    struct kv_statistics statistics;
    struct shard_machine data = kv_machine(kv);
    struct shard_machine machine;
    struct buffer child = {0};
    system__world_init(&world, &data);
    machine = system_machine_over(world.system, &data);
    bootstrap(&world);
    assert_int_equal(kv_say(&world, "set", "bar", "v"), 0); /* Slot 5061. */
    assert_int_equal(kv_say(&world, "set", "foo", "v"), 0); /* Slot 12182. */
    kv_want_split(kv, 10000, 7);
    assert_int_equal(machine.split(machine.context, world.rows, 10000, &child), ERROR_CORRUPT);
    assert_true(system__world_background(&world)); /* It is counted. */
    assert_int_equal(machine.split(machine.context, world.rows, 10000, &child), 0);
    kv_get_statistics(kv, &statistics);
    assert_int_equal(statistics.key_count, 1);
    struct kv *other = kv_create();
    struct shard_machine other_data = kv_machine(other);
    struct system *other_system = system_create();
    machine = system_machine_over(other_system, &other_data);
    machine.set_range(machine.context, 10000, KV_SLOT_COUNT);
    kv_want_split(other, 10000, 8);
    assert_false(kv_wants_split(other)); /* Its range begins there. */
    kv_want_split(other, 10001, 8);
    assert_true(kv_wants_split(other));
    assert_int_equal(other_data.load(other_data.context, world.rows, buffer_bytes(&child), NULL),
                     0);
    kv_get_statistics(other, &statistics);
    assert_int_equal(statistics.key_count, 1);
    system__world_restart(&world);
    assert_int_equal(system_node_count(world.system), 1);
    machine = system_machine_over(other_system, NULL);
    assert_true(machine.set_range == NULL && machine.split == NULL);
    system_destroy(other_system);
    kv_destroy(other);
    buffer_deinit(&child);
    system__world_deinit(&world);
    kv_destroy(kv);
}

/* Claim: what the builders were given arrives in the rows and comes back through the decoders. */
static void test_commands_and_replies(void **state)
{
    (void)state;
    struct system__world world;
    struct system_digest key = digest_of(2);
    struct system_digest hash = digest_of(9);
    struct system_node_facts facts = {.peer = "[::1]:7380",
                                      .redis = "[::1]:6379",
                                      .admin = "[::1]:7379",
                                      .zone = "west",
                                      .software = "0.2.0",
                                      .feature_max = 2,
                                      .key = &key};
    struct system_command command;
    struct system_nodes nodes;
    struct system_settings settings;
    struct system_audits audits;
    uint64_t number = 0;
    system__world_init(&world, NULL);
    assert_int_equal(system_generation(world.system), 0);
    bootstrap(&world);
    assert_int_equal(system_generation(world.system), 1);
    system_token_add_command(&command, &hash, 60000, 3);
    assert_int_equal(run_number(&world, &command, &number), 0);
    system_join_command(&command, &hash, &facts);
    assert_int_equal(run_number(&world, &command, &number), 0);
    assert_int_equal(number, 2);
    struct system_node_facts change = {.zone = "east"};
    system_node_set_command(&command, 2, &change);
    assert_int_equal(run_number(&world, &command, &number), 0);
    assert_int_equal(number, 1);
    system_node_state_command(&command, 2, SYSTEM_NODE_DRAINING);
    assert_int_equal(run_number(&world, &command, &number), 0);
    system_setting_command(&command, 5, 0);
    assert_int_equal(run_number(&world, &command, &number), 0);
    system_audit_command(&command, SYSTEM_AUDIT_TRANSFER, 2, "shard 7");
    assert_int_equal(run_number(&world, &command, &number), 0);
    system__world_restart(&world);

    system_nodes_command(&command);
    assert_int_equal(system_reply_nodes(system__world_run(&world, &command), &nodes, NULL), 0);
    assert_int_equal(nodes.node_count, 2);
    const struct system_node *node = &nodes.nodes[1];
    assert_true(system__world_is_same_node(node, system_node_find(world.system, 2)));
    assert_int_equal(nodes.settings.generation, system_generation(world.system));
    assert_int_equal(node->state, SYSTEM_NODE_DRAINING);
    assert_string_equal(node->peer, "[::1]:7380");
    assert_string_equal(node->redis, "[::1]:6379");
    assert_string_equal(node->admin, "[::1]:7379");
    assert_string_equal(node->zone, "east");
    assert_string_equal(node->software, "0.2.0");
    assert_int_equal(node->feature_max, 2);
    assert_memory_equal(&node->key, &key, sizeof key);
    assert_null(system_node_find(world.system, 3));
    system_nodes_deinit(&nodes);

    system_settings_command(&command);
    assert_int_equal(system_reply_settings(system__world_run(&world, &command), &settings, NULL),
                     0);
    assert_int_equal(settings.replicas, 5);
    assert_string_equal(settings.cluster, cluster);
    system_auditlog_command(&command, 1);
    assert_int_equal(system_reply_auditlog(system__world_run(&world, &command), &audits, NULL), 0);
    assert_int_equal(audits.audit_count, 1);
    assert_int_equal(audits.audits[0].number, number);
    assert_string_equal(audits.audits[0].text, "shard 7");
    system_audits_deinit(&audits);
    system__world_deinit(&world);
}

/* Claim: a reply that is cut, or of something else, is refused whole, wherever it is cut. */
static void test_malformed_replies(void **state)
{
    (void)state;
    struct system__world world;
    struct system_command command;
    struct system_nodes nodes;
    struct system_tokens tokens;
    struct system_audits audits;
    struct system_settings settings;
    struct error error = {0};
    uint64_t number;
    system__world_init(&world, NULL);
    bootstrap(&world);
    system_nodes_command(&command);
    struct bytes reply = system__world_run(&world, &command);
    for (size_t size = 0; size < reply.size_bytes; size++) {
        struct bytes cut = bytes_make(reply.data, size);
        assert_int_equal(system_reply_nodes(cut, &nodes, &error), ERROR_PROTOCOL);
        assert_int_equal(system_reply_number(cut, &number, &error), ERROR_PROTOCOL);
    }
    assert_int_equal(system_reply_settings(reply, &settings, &error), ERROR_PROTOCOL);
    assert_int_equal(system_reply_tokens(reply, &tokens, &error), ERROR_PROTOCOL);
    assert_int_equal(system_reply_auditlog(reply, &audits, &error), ERROR_PROTOCOL);
    assert_int_equal(system_reply_number(BYTES(":1\r\n:2\r\n"), &number, &error), ERROR_PROTOCOL);
    assert_int_equal(system_reply_number(BYTES(":-1\r\n"), &number, &error), ERROR_PROTOCOL);
    assert_int_equal(system_reply_number(BYTES("+OK\r\n"), &number, &error), ERROR_PROTOCOL);
    assert_int_equal(system_reply_nodes(BYTES("-LOADING later\r\n"), &nodes, &error), -EAGAIN);
    assert_string_equal(error.message, "LOADING later");
    assert_int_equal(system_reply_number(BYTES("-STATE no\r\n"), &number, &error), -EPERM);
    assert_string_equal(error.message, "no");
    assert_int_equal(system_reply_number(BYTES("-STATELY no\r\n"), &number, &error), -EAGAIN);
    assert_true(system_reply_is_early(BYTES("-NOCLUSTER there is no cluster yet\r\n")));
    assert_false(system_reply_is_early(BYTES("-NOCLUSTER")));
    assert_false(system_reply_is_early(BYTES("-STATE no\r\n")));
    assert_false(system_reply_is_early(BYTES(":1\r\n")));
    system__world_deinit(&world);
}

/* Claim: rows that cannot be read, or that a newer version wrote, stop the load. */
static void test_load_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        size_t key_size;
        const char *value;
        size_t value_size;
        int status;
    } cases[] = {
        {"\x02\x01", 2, "\x02", 1, ERROR_NEWER_FORMAT},
        {"\x02\x01", 2, "\x01", 1, ERROR_CORRUPT},
        {"\x02\x01", 2, "", 0, ERROR_CORRUPT},
        {"\x02\x02\x00\x00\x00\x01", 6, "\x01", 1, ERROR_CORRUPT},
        {"\x02\x02\x00\x00\x00\x01", 6, "\x09", 1, ERROR_NEWER_FORMAT},
        {"\x02\x02\x00\x00\x01", 5, "\x01", 1, ERROR_CORRUPT},
        {"\x02\x03xx", 4, "\x01", 1, ERROR_CORRUPT},
        {"\x02\x05\0\0\0\x02", 6, "\x01", 1, ERROR_CORRUPT},
        {"\x02\x05\0\0\0\x02", 6, "\x02", 1, ERROR_CORRUPT},
        {"\x02\x05\0\0\0\x02", 6, "\x03", 1, ERROR_NEWER_FORMAT},
        /* Planned, but of no shard that has a row. */
        {"\x02\x05\0\0\0\x02", 6, "\x02\x01\0\0\0\x20\0\0\0\x40\0\0\x01\0\0\0\0\0\0\0", 20,
         ERROR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct system__world world;
        struct error error = {0};
        system__world_init(&world, NULL);
        bootstrap(&world);
        rows_put(world.rows, bytes_make(cases[i].key, cases[i].key_size),
                 bytes_make(cases[i].value, cases[i].value_size));
        struct system *other = system_create();
        struct shard_machine machine = system_machine_over(other, NULL);
        assert_int_equal(machine.load(machine.context, world.rows, BYTES(""), &error),
                         cases[i].status);
        assert_non_null(strstr(error.message, "rows of the system"));
        system_destroy(other);
        system__world_deinit(&world);
    }
}

/* Claim: ids are never given again, however many nodes come and go; there is a limit of members, and
 * of removed ones that are remembered. */
static void test_limits(void **state)
{
    (void)state;
    struct system__world world;
    struct system_command command;
    uint64_t id = 0;
    system__world_init(&world, NULL);
    bootstrap(&world);
    uint64_t joined = 1;
    for (uint32_t turn = 0; turn < 3500; turn++) {
        char peer[32];
        struct system_digest hash = digest_of(turn / 100);
        struct system_digest key = digest_of(100 + turn);
        struct system_node_facts facts = {.peer = peer, .feature_max = 1, .key = &key};
        (void)snprintf(peer, sizeof peer, "n:%u", turn);
        if (turn % 100 == 0) {
            system_token_add_command(&command, &hash, 1000000, 100);
            assert_int_equal(run_number(&world, &command, &id), 0);
        }
        system_join_command(&command, &hash, &facts);
        int status = run_number(&world, &command, &id);
        if (joined - (turn > 1100 ? turn - 1100 : 0) < SYSTEM_NODE_COUNT_MAX || turn > 1100) {
            assert_int_equal(status, 0);
            assert_int_equal(id, joined + 1);
            joined++;
        } else {
            assert_int_equal(status, -ENOSPC);
        }
        if (turn >= 1100) {
            uint32_t oldest = turn - 1100 + 2;
            system_node_state_command(&command, oldest, SYSTEM_NODE_REMOVED);
            assert_int_equal(run_number(&world, &command, &id), 0);
        }
    }
    assert_int_equal(system_node_count(world.system), SYSTEM_NODE_ROW_COUNT_MAX);
    assert_null(system_node_find(world.system, 2));
    assert_non_null(system_node_find(world.system, 1));
    system__world_restart(&world);
    system__world_deinit(&world);
}

static void random_command(struct system_command *command, struct random *random,
                           struct system_digest digests[2], struct system_node_facts *facts)
{
    static const char *const peers[] = {"h:1", "h:2", "h:3", "h:4", "h:5", "h:6"};
    digests[0] = digest_of(random_below(random, 8));
    digests[1] = digest_of(random_below(random, 12));
    *facts = (struct system_node_facts){.peer = peers[random_below(random, 6)],
                                        .feature_max = 1 + (uint32_t)random_below(random, 3),
                                        .key = &digests[1]};
    uint32_t node = (uint32_t)random_below(random, 8);
    switch (random_below(random, 9)) {
    case 7:
        system_split_command(command, SLOTS_COUNT / 8 * (1 + (uint32_t)random_below(random, 7)));
        return;
    case 8:
        system_split_done_command(command, 1 + (wal_shard)random_below(random, 9));
        return;
    case 0:
        system_token_add_command(command, &digests[0], 1 + random_below(random, 200),
                                 1 + (uint32_t)random_below(random, 4));
        return;
    case 1:
    case 2:
        system_join_command(command, &digests[0], facts);
        return;
    case 3:
        facts->key = random_below(random, 2) == 0 ? NULL : facts->key;
        system_node_set_command(command, node, facts);
        return;
    case 4:
        system_node_state_command(command, node,
                                  (enum system_node_state)(1 + random_below(random, 4)));
        return;
    case 5:
        system_setting_command(command, 0, 1 + (uint32_t)random_below(random, 3));
        return;
    default:
        system_audit_command(command, SYSTEM_AUDIT_TRANSFER, node, "x");
    }
}

/* Claim: whatever is done in whatever order, the rows keep the invariants, a machine that loads them
 * holds the same, and what is refused says so. */
static void test_random_histories(void **state)
{
    (void)state;
    uint32_t refused_count = 0;
    uint32_t done_count = 0;
    uint32_t split_count = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random random;
        struct system__world world;
        struct system_command command;
        random_init(&random, seed);
        system__world_init(&world, NULL);
        bootstrap_with(&world, 1 + (uint32_t)random_below(&random, 3));
        for (uint32_t i = 0; i < 150; i++) {
            struct slots before = {0};
            slots_copy(&before, system_slots(world.system));
            struct system_digest digests[2];
            struct system_node_facts facts;
            uint64_t number;
            uint64_t generation = system_generation(world.system);
            world.time_ms += random_below(&random, 30);
            random_command(&command, &random, digests, &facts);
            int status = run_number(&world, &command, &number);
            assert_int_not_equal(status, ERROR_PROTOCOL);
            assert_int_not_equal(status, -EINVAL);
            assert_true(system_generation(world.system) - generation <= (status == 0));
            assert_true(slots_descend(system_slots(world.system), &before));
            refused_count += status != 0;
            done_count += status == 0;
            split_count += system_slots(world.system)->range_count - before.range_count;
            slots_deinit(&before);
            while (random_below(&random, 4) == 0 && system__world_background(&world)) {
            }
            system__world_restart(&world);
        }
        system__world_deinit(&world);
    }
    assert_true(refused_count > 1000);
    assert_true(done_count > 1000);
    assert_true(split_count > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_over_data),
        cmocka_unit_test(test_foreign_opcodes),
        cmocka_unit_test(test_a_split_is_not_logged_for_older_software),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_background),
        cmocka_unit_test(test_split_of_the_data),
        cmocka_unit_test(test_commands_and_replies),
        cmocka_unit_test(test_malformed_replies),
        cmocka_unit_test(test_load_refuses),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
