/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: the commands of system do what system.h says, and the rows keep its invariants.
 *
 * Runs every testdata/\*.txt of this folder. A block is commands, "----", and what they answered, up
 * to an empty line; each block starts with an empty store at time 1000. After each command the state
 * is loaded into another machine, which must hold the same, and the rows are verified. UPDATE=1
 * rewrites what was expected. A command is its name without SYSTEM. and its arguments; "~a" stands
 * for 64 times a, "~~a" for 32 times. These direct the runner:
 *
 *   time N       set the clock to N milliseconds
 *   background   do all background work that is due, and count the commands
 *   state        what the machine holds of settings and nodes
 *   shards       and of shards
 *   repeat N …   a command N times, with % as the number of the turn; shows the last answer */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/number/number.h"
#include "service/system/system_world.h"
#include "tests/testdata/testdata.h"

enum { WORD_COUNT_MAX = 64, LINE_SIZE_MAX = 4096 };

struct scene {
    struct system__world world;
    struct buffer output;
};

static const struct {
    const char *name;
    uint16_t opcode;
} commands[] = {
    {"BOOTSTRAP", SYSTEM_OPCODE_BOOTSTRAP}, {"TOKENADD", SYSTEM_OPCODE_TOKENADD},
    {"JOIN", SYSTEM_OPCODE_JOIN},           {"NODESET", SYSTEM_OPCODE_NODESET},
    {"NODESTATE", SYSTEM_OPCODE_NODESTATE}, {"SETTING", SYSTEM_OPCODE_SETTING},
    {"AUDIT", SYSTEM_OPCODE_AUDIT},         {"TOKENSWEEP", SYSTEM_OPCODE_TOKENSWEEP},
    {"SPLIT", SYSTEM_OPCODE_SPLIT},         {"SPLITDONE", SYSTEM_OPCODE_SPLITDONE},
    {"NODES", SYSTEM_OPCODE_NODES},         {"SETTINGS", SYSTEM_OPCODE_SETTINGS},
    {"TOKENS", SYSTEM_OPCODE_TOKENS},       {"AUDITLOG", SYSTEM_OPCODE_AUDITLOG},
};

/* ---- Showing answers ------------------------------------------------------------------------- */

static void show_digest(struct buffer *output, const struct system_digest *digest)
{
    char text[2 * SYSTEM_DIGEST_SIZE_BYTES + 1];
    system__digest_format(digest, text);
    bool is_one_letter = strspn(text, (char[]){text[0], '\0'}) == sizeof text - 1;
    buffer_append_format(output, is_one_letter ? "~%.1s" : "%.8s", text);
}

static void show_settings(struct buffer *output, const struct system_settings *settings)
{
    buffer_append_format(output,
                         "cluster %.4s made %" PRIu64 " replicas %" PRIu32 " feature %" PRIu32
                         " next %" PRIu32 " generation %" PRIu64 "\n",
                         settings->cluster, settings->created_at_ms, settings->replicas,
                         settings->feature, settings->node_id_next, settings->generation);
}

static const char *or_dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

static void show_node(struct buffer *output, const struct system_node *node)
{
    buffer_append_format(
        output, "node %" PRIu32 " %s joined %" PRIu64 " changed %" PRIu64 " feature %" PRIu32,
        node->id, system_node_state_name(node->state), node->joined_at_ms, node->changed_at_ms,
        node->feature_max);
    buffer_append_format(output, " peer %s redis %s admin %s zone %s software %s key ", node->peer,
                         or_dash(node->redis), or_dash(node->admin), or_dash(node->zone),
                         or_dash(node->software));
    show_digest(output, &node->key);
    buffer_append_byte(output, '\n');
}

static void show_tokens(struct buffer *output, struct bytes reply)
{
    struct system_tokens tokens;
    assert_int_equal(system_reply_tokens(reply, &tokens, NULL), 0);
    for (uint32_t i = 0; i < tokens.token_count; i++) {
        const struct system_token *token = &tokens.tokens[i];
        buffer_append_format(output, "token ");
        show_digest(output, &token->hash);
        buffer_append_format(output, " made %" PRIu64 " expires %" PRIu64 " used %u of %u\n",
                             token->created_at_ms, token->expires_at_ms, token->used_count,
                             token->uses);
    }
    buffer_append_format(output, "%u tokens\n", tokens.token_count);
    system_tokens_deinit(&tokens);
}

static void show_audits(struct buffer *output, struct bytes reply)
{
    struct system_audits audits;
    assert_int_equal(system_reply_auditlog(reply, &audits, NULL), 0);
    for (uint32_t i = 0; i < audits.audit_count; i++) {
        const struct system_audit *audit = &audits.audits[i];
        buffer_append_format(output, "%" PRIu64 " at %" PRIu64, audit->number, audit->first_at_ms);
        if (audit->count > 1) {
            buffer_append_format(output, " to %" PRIu64 " %u times", audit->last_at_ms,
                                 audit->count);
        }
        buffer_append_format(output, " %s node %" PRIu32 ": %s\n",
                             system_audit_kind_name(audit->kind), audit->node, audit->text);
    }
    system_audits_deinit(&audits);
}

static void show_reply(struct buffer *output, uint16_t opcode, struct bytes reply)
{
    struct error error = {0};
    struct system_nodes nodes;
    struct system_settings settings;
    uint64_t number;
    if (reply.data[0] == '-') {
        int status = system_reply_number(reply, &number, &error);
        buffer_append_format(output, "(%s) %s\n", strerrorname_np(-status), error.message);
        return;
    }
    switch (opcode) {
    case SYSTEM_OPCODE_NODES:
        assert_int_equal(system_reply_nodes(reply, &nodes, &error), 0);
        show_settings(output, &nodes.settings);
        for (uint32_t i = 0; i < nodes.node_count; i++) {
            show_node(output, &nodes.nodes[i]);
        }
        system_nodes_deinit(&nodes);
        return;
    case SYSTEM_OPCODE_SETTINGS:
        assert_int_equal(system_reply_settings(reply, &settings, &error), 0);
        show_settings(output, &settings);
        return;
    case SYSTEM_OPCODE_TOKENS:
        show_tokens(output, reply);
        return;
    case SYSTEM_OPCODE_AUDITLOG:
        show_audits(output, reply);
        return;
    default:
        assert_int_equal(system_reply_number(reply, &number, &error), 0);
        buffer_append_format(output, "%" PRIu64 "\n", number);
    }
}

static void show_state(struct buffer *output, const struct system *system)
{
    show_settings(output, system_settings(system));
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        const struct system_node *node = system_node_at(system, i);
        show_node(output, node);
        assert_ptr_equal(system_node_find(system, node->id), node);
    }
}

static void show_shards(struct buffer *output, const struct system *system)
{
    const struct slots *slots = system_slots(system);
    for (uint32_t i = 0; i < slots->range_count; i++) {
        const struct slots_range *range = &slots->ranges[i];
        buffer_append_format(output, "shard %u slots %u to %u\n", range->shard, range->first,
                             range->end - 1);
    }
    for (uint32_t i = 0; i < system_planned_count(system); i++) {
        struct system_planned planned;
        system_planned_at(system, i, &planned);
        buffer_append_format(output, "planned %u from shard %u at %u, since %" PRIu64 "\n",
                             planned.child, planned.parent, planned.first, planned.planned_at_ms);
    }
}

/* ---- Running --------------------------------------------------------------------------------- */

/* Cut a line into words; `storage` holds what "~a" stands for, and words with blanks in quotes. */
static uint32_t split(const char *line, struct bytes *words, char *storage)
{
    uint32_t count = 0;
    while (*line != '\0') {
        assert_true(count < WORD_COUNT_MAX);
        char *start = storage;
        if (*line == '"') {
            for (line++; *line != '"'; line++) {
                *storage++ = *line == '_' ? '\n' : *line;
            }
            line++;
        } else if (*line == '~') {
            size_t size = line[1] == '~' ? 32 : 64;
            line += size == 32 ? 2 : 1;
            memset(storage, *line, size);
            storage += size;
            line++;
        } else {
            while (*line != '\0' && *line != ' ') {
                *storage++ = *line++;
            }
        }
        words[count++] = bytes_make(start, (size_t)(storage - start));
        line += *line == ' ';
    }
    return count;
}

static uint16_t opcode_of(struct bytes name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (bytes_equal(name, bytes_of_text(commands[i].name))) {
            return commands[i].opcode;
        }
    }
    fail_msg("no command %.*s", (int)name.size_bytes, (const char *)name.data);
    return 0;
}

static uint16_t run_command(struct system__world *world, const struct bytes *words, uint32_t count)
{
    const struct shard_command command = {
        .opcode = opcode_of(words[0]), .argument_count = count - 1, .arguments = words + 1};
    int status = system_is_write(command.opcode) ? system__world_execute(world, &command)
                                                 : system__world_read(world, &command);
    assert_int_equal(status, 0);
    return command.opcode;
}

static uint64_t number_of(struct bytes word)
{
    uint64_t number;
    assert_true(number_parse_unsigned(word, &number));
    return number;
}

/* "repeat N command": % becomes the number of the turn. */
static uint16_t repeat(struct system__world *world, const char *line)
{
    char *end;
    unsigned long count = strtoul(line, &end, 10);
    uint16_t opcode = 0;
    for (unsigned long i = 1; i <= count; i++) {
        struct buffer turn = {0};
        struct bytes words[WORD_COUNT_MAX];
        char storage[LINE_SIZE_MAX];
        for (const char *each = end + 1; *each != '\0'; each++) {
            if (*each == '%') {
                buffer_append_format(&turn, "%lu", i);
            } else if (*each == '#') {
                buffer_append_format(&turn, "%064lx", i);
            } else {
                buffer_append_byte(&turn, (uint8_t)*each);
            }
        }
        buffer_append_byte(&turn, '\0');
        opcode = run_command(world, words, split((const char *)turn.data, words, storage));
        buffer_deinit(&turn);
    }
    return opcode;
}

static void run_line(struct system__world *world, const char *line, struct buffer *output)
{
    struct bytes words[WORD_COUNT_MAX];
    char storage[LINE_SIZE_MAX];
    uint32_t count = split(line, words, storage);
    if (bytes_equal(words[0], BYTES("time"))) {
        world->time_ms = number_of(words[1]);
        return;
    }
    if (bytes_equal(words[0], BYTES("state"))) {
        show_state(output, world->system);
        return;
    }
    if (bytes_equal(words[0], BYTES("shards"))) {
        show_shards(output, world->system);
        return;
    }
    if (bytes_equal(words[0], BYTES("background"))) {
        uint32_t done = 0;
        while (system__world_background(world)) {
            done++;
        }
        buffer_append_format(output, "%u commands\n", done);
    } else if (bytes_equal(words[0], BYTES("repeat"))) {
        uint16_t opcode = repeat(world, line + sizeof "repeat");
        show_reply(output, opcode, buffer_bytes(&world->answer));
    } else {
        uint16_t opcode = run_command(world, words, count);
        show_reply(output, opcode, buffer_bytes(&world->answer));
    }
    system__world_restart(world);
}

static void scene_begin(void *context, const char *path)
{
    (void)path;
    struct scene *scene = context;
    *scene = (struct scene){0};
    system__world_init(&scene->world, NULL);
}

static void scene_run(void *context, const char *line)
{
    struct scene *scene = context;
    run_line(&scene->world, line, &scene->output);
}

static void scene_show(void *context, struct buffer *output)
{
    const struct scene *scene = context;
    buffer_append(output, buffer_bytes(&scene->output));
}

static void scene_end(void *context)
{
    struct scene *scene = context;
    system__world_deinit(&scene->world);
    buffer_deinit(&scene->output);
}

static void test_testdata(void **state)
{
    (void)state;
    struct scene scene;
    testdata_run(&(struct testdata){.folder = "src/service/system/testdata",
                                    .scene = &scene,
                                    .begin = scene_begin,
                                    .run = scene_run,
                                    .show = scene_show,
                                    .end = scene_end});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_testdata)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
