/* SPDX-License-Identifier: Apache-2.0 */
/* Groups in text: every text in testdata/ is a group's life, one command a line, the output of a block
 * of commands below `----`. UPDATE=1 rewrites what was expected.
 *
 *   group nodes=3 [learners=4,5] [strangers=6] [timeout=250] [heartbeat=50] [quiet=ms] [stall=ms]
 *         [log2=1,1,3] [term2=4] [cut=COUNT] [show=all|changes|nothing]
 *   sleep MS [N]             everybody's clock moves (or N's), nobody is told
 *   tick N|all [MS]          the clock moves, and the node is told
 *   campaign N               sleep until nobody is protected, and N's timer is up
 *   elect N                  N campaigns and everything arrives, silently
 *   propose N [COUNT]        also confirm N, transfer N M, configure N voters=1,2 [learners=3]
 *   deliver all|N->M [COUNT|copy|last], drop all|N->M [COUNT]
 *   persist all|N [COUNT]    what was to be made durable is
 *   settle                   deliver and persist everything until nothing moves
 *   crash N [KEPT], restart N, store N, compact N [KEEP], damage N INDEX [TERM]
 *   lost N M                 N is told that M is thought to be dead
 *   unreachable N M, snapshot N M [fail]
 *   states, log N, peers N, reads N, network
 *   show all|changes|nothing */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/raft/raft_world.h"
#include "tests/testdata/testdata.h"

enum { WORD_COUNT_MAX = 16, SETTLE_TURNS_MAX = 10000 };

struct script {
    struct raft__world world;
    const char *path;
    const char *words[WORD_COUNT_MAX];
    uint32_t word_count;
};

static const char *word(const struct script *script, uint32_t i)
{
    return i < script->word_count ? script->words[i] : "";
}

static uint64_t number(const struct script *script, uint32_t i, uint64_t otherwise)
{
    return i < script->word_count ? strtoull(script->words[i], NULL, 10) : otherwise;
}

static bool is_word(const struct script *script, uint32_t i, const char *text)
{
    return strcmp(word(script, i), text) == 0;
}

/* The value of `name=value`; NULL when it is not there. */
static const char *option(const struct script *script, const char *name)
{
    size_t length = strlen(name);
    for (uint32_t i = 1; i < script->word_count; i++) {
        if (strncmp(script->words[i], name, length) == 0 && script->words[i][length] == '=') {
            return script->words[i] + length + 1;
        }
    }
    return NULL;
}

static uint32_t option_number(const struct script *script, const char *name, uint32_t otherwise)
{
    const char *text = option(script, name);
    return text != NULL ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

static uint32_t option_nodes(const struct script *script, const char *name, raft_node *nodes)
{
    uint32_t count = 0;
    const char *text = option(script, name);
    while (text != NULL && *text != '\0') {
        char *end = NULL;
        nodes[count++] = (raft_node)strtoul(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
    }
    return count;
}

static struct raft__world_node *node_at(struct script *script, uint32_t i)
{
    uint64_t id = number(script, i, 0);
    if (id == 0 || id > RAFT__WORLD_NODE_COUNT_MAX || !script->world.nodes[id].exists) {
        fail_msg("%s: `%s %s`: there is no such node", script->path, word(script, 0),
                 word(script, i));
    }
    return &script->world.nodes[id];
}

/* ---- Groups and time ------------------------------------------------------------------------- */

static void set_show(struct raft__world *world, const char *what)
{
    world->does_show_messages = strcmp(what, "all") == 0;
    world->does_show_changes = world->does_show_messages || strcmp(what, "changes") == 0;
}

/* `log2=1,1,3`: node 2 has three entries of these terms; `term2=4`: and has seen term 4. */
static void prepare_log(struct script *script, raft_node id)
{
    raft_node terms[64];
    char name[16];
    (void)snprintf(name, sizeof name, "log%" PRIu32, id);
    uint32_t count = option_nodes(script, name, terms);
    (void)snprintf(name, sizeof name, "term%" PRIu32, id);
    uint32_t term = count > 0 ? terms[count - 1] : 0;
    raft__world_prepare(&script->world, id, terms, count, option_number(script, name, term));
}

static void run_group(struct script *script)
{
    struct raft__world *world = &script->world;
    raft__world_deinit(world);
    raft__world_init(world);
    set_show(world, option(script, "show") != NULL ? option(script, "show") : "all");
    world->options = (struct raft_options){
        .election_timeout_ms = option_number(script, "timeout", 0),
        .heartbeat_interval_ms = option_number(script, "heartbeat", 0),
        .quiet_after_ms = option_number(script, "quiet", 0),
        .persist_timeout_ms = option_number(script, "stall", 0),
    };
    world->append_cut_count = option_number(script, "cut", 0);
    struct raft_configuration configuration = {0};
    configuration.voter_count = option_number(script, "nodes", 0);
    for (uint32_t i = 0; i < configuration.voter_count; i++) {
        configuration.voters[i] = i + 1;
    }
    configuration.learner_count = option_nodes(script, "learners", configuration.learners);
    struct raft_configuration nobody = {0};
    raft_node strangers[RAFT__WORLD_NODE_COUNT_MAX];
    uint32_t stranger_count = option_nodes(script, "strangers", strangers);
    for (uint32_t i = 0; i < configuration.voter_count; i++) {
        raft__world_add(world, configuration.voters[i], &configuration);
    }
    for (uint32_t i = 0; i < configuration.learner_count; i++) {
        raft__world_add(world, configuration.learners[i], &configuration);
    }
    for (uint32_t i = 0; i < stranger_count; i++) {
        raft__world_add(world, strangers[i], &nobody);
    }
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        if (world->nodes[i].exists) {
            world->nodes[i].now_ms = 1000;
            prepare_log(script, i);
            raft__world_start(world, i);
        }
    }
}

static void sleep_all(struct raft__world *world, uint64_t time_ms)
{
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        world->nodes[i].now_ms += time_ms;
    }
}

static void tick_one(struct raft__world *world, raft_node id)
{
    if (world->nodes[id].raft != NULL) {
        assert_int_equal(raft__world_step(world, id, (struct raft_input){.kind = RAFT_INPUT_TICK}),
                         0);
    }
}

static void run_tick(struct script *script)
{
    uint64_t time_ms = number(script, 2, 0);
    if (!is_word(script, 1, "all")) {
        struct raft__world_node *node = node_at(script, 1);
        node->now_ms += time_ms;
        tick_one(&script->world, node->id);
        return;
    }
    sleep_all(&script->world, time_ms);
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        tick_one(&script->world, i);
    }
}

static void run_campaign(struct script *script)
{
    struct raft__world_node *node = node_at(script, 1);
    sleep_all(&script->world, (uint64_t)node->raft->election_timeout_ms * 2 + 1);
    tick_one(&script->world, node->id);
}

/* ---- Network and disks ----------------------------------------------------------------------- */

static bool is_link(const struct script *script, uint32_t i, const struct raft_message *message)
{
    char name[32];
    (void)snprintf(name, sizeof name, "%" PRIu32 "->%" PRIu32, message->from, message->to);
    return is_word(script, i, "all") || is_word(script, i, name);
}

static bool find_packet(struct script *script, bool is_last, uint32_t *position)
{
    bool is_found = false;
    for (uint32_t i = 0; i < script->world.network.count; i++) {
        if (is_link(script, 1, &script->world.network.items[i].message)) {
            *position = i;
            is_found = true;
            if (!is_last) {
                return true;
            }
        }
    }
    return is_found;
}

/* Only what is on the way now, not the answers to it. */
static void run_deliver(struct script *script)
{
    struct raft__world *world = &script->world;
    bool is_copy = is_word(script, 2, "copy");
    bool is_last = is_word(script, 2, "last");
    uint64_t count = is_copy || is_last ? 1 : number(script, 2, UINT64_MAX);
    uint64_t newest = world->packet_number;
    for (uint32_t position = 0; count > 0 && find_packet(script, is_last, &position); count--) {
        if (world->network.items[position].number > newest) {
            return;
        }
        if (strcmp(word(script, 0), "drop") == 0) {
            raft__world_drop(world, position);
        } else {
            raft__world_deliver(world, position, is_copy);
        }
    }
}

static void run_persist(struct script *script)
{
    struct raft__world *world = &script->world;
    if (!is_word(script, 1, "all")) {
        struct raft__world_node *node = node_at(script, 1);
        uint64_t count = number_min(number(script, 2, node->write_count), node->write_count);
        raft__world_persist(world, node->id, (uint32_t)count);
        return;
    }
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        raft__world_persist(world, i, world->nodes[i].write_count);
    }
}

static void settle(struct script *script)
{
    struct raft__world *world = &script->world;
    for (uint32_t turn = 0; turn < SETTLE_TURNS_MAX; turn++) {
        if (world->network.count > 0) {
            raft__world_deliver(world, 0, false);
            continue;
        }
        raft_node busy = 0;
        for (raft_node i = RAFT__WORLD_NODE_COUNT_MAX; i > 0; i--) {
            busy = world->nodes[i].write_count > 0 ? i : busy;
        }
        if (busy == 0) {
            return;
        }
        raft__world_persist(world, busy, world->nodes[busy].write_count);
    }
    fail_msg("%s: it does not settle", script->path);
}

static void run_elect(struct script *script)
{
    struct raft__world *world = &script->world;
    bool does_show_changes = world->does_show_changes;
    bool does_show_messages = world->does_show_messages;
    set_show(world, "nothing");
    run_campaign(script);
    settle(script);
    world->does_show_changes = does_show_changes;
    world->does_show_messages = does_show_messages;
    const struct raft__world_node *node = node_at(script, 1);
    raft__world_show(world, "%" PRIu32 " %s in term %" PRIu64, node->id,
                     node->output.role == RAFT_ROLE_LEADER ? "leads" : "does not lead",
                     node->output.term);
}

/* ---- Inputs ---------------------------------------------------------------------------------- */

static void give(struct script *script, struct raft_input input)
{
    struct raft__world_node *node = node_at(script, 1);
    int status = raft__world_step(&script->world, node->id, input);
    if (status != 0) {
        raft__world_show(&script->world, "%s",
                         status == -EBUSY    ? "refused: busy"
                         : status == -EINVAL ? "refused: not possible"
                                             : error_text(status));
    }
}

static void run_propose(struct script *script)
{
    for (uint64_t i = number(script, 2, 1); i > 0; i--) {
        give(script, (struct raft_input){.kind = RAFT_INPUT_PROPOSE});
    }
}

static void run_configure(struct script *script)
{
    struct raft_configuration configuration = {0};
    configuration.voter_count = option_nodes(script, "voters", configuration.voters);
    configuration.outgoing_count = option_nodes(script, "outgoing", configuration.outgoing);
    configuration.learner_count = option_nodes(script, "learners", configuration.learners);
    give(script,
         (struct raft_input){.kind = RAFT_INPUT_CONFIGURE, .configuration = &configuration});
}

static void run_confirm(struct script *script)
{
    give(script, (struct raft_input){.kind = RAFT_INPUT_CONFIRM});
}

static void run_transfer(struct script *script)
{
    give(script,
         (struct raft_input){.kind = RAFT_INPUT_TRANSFER, .node = (raft_node)number(script, 2, 0)});
}

static void run_lost(struct script *script)
{
    give(script, (struct raft_input){.kind = RAFT_INPUT_PEER_LOST,
                                     .node = (raft_node)number(script, 2, 0)});
}

static void run_found(struct script *script)
{
    give(script, (struct raft_input){.kind = RAFT_INPUT_PEER_FOUND,
                                     .node = (raft_node)number(script, 2, 0)});
}

static void run_unreachable(struct script *script)
{
    give(script, (struct raft_input){.kind = RAFT_INPUT_UNREACHABLE,
                                     .node = (raft_node)number(script, 2, 0)});
}

static void run_cut(struct script *script)
{
    give(script, (struct raft_input){.kind = RAFT_INPUT_APPEND_CUT,
                                     .node = (raft_node)number(script, 2, 0),
                                     .index = number(script, 3, 0)});
}

static void run_snapshot(struct script *script)
{
    raft__world_snapshot(&script->world, node_at(script, 1)->id, node_at(script, 2)->id,
                         is_word(script, 3, "fail"));
}

/* ---- Lives ----------------------------------------------------------------------------------- */

static void run_crash(struct script *script)
{
    struct raft__world_node *node = node_at(script, 1);
    raft__world_crash(&script->world, node->id, (uint32_t)number(script, 2, 0));
}

static void run_restart(struct script *script)
{
    raft__world_start(&script->world, node_at(script, 1)->id);
}

static void run_store(struct script *script)
{
    raft__world_store(&script->world, node_at(script, 1)->id);
}

static void run_compact(struct script *script)
{
    raft__world_compact(&script->world, node_at(script, 1)->id, number(script, 2, 0));
}

static void run_damage(struct script *script)
{
    raft__world_damage(&script->world, node_at(script, 1)->id, number(script, 2, 0),
                       number(script, 3, UINT64_MAX));
}

/* ---- Questions ------------------------------------------------------------------------------- */

static void run_states(struct script *script)
{
    static const char *const roles[] = {"follower", "precandidate", "candidate", "leader"};
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        const struct raft__world_node *node = &script->world.nodes[i];
        if (node->raft == NULL) {
            if (node->exists) {
                raft__world_show(&script->world, "%" PRIu32 " is down", i);
            }
            continue;
        }
        raft__world_show(&script->world,
                         "%" PRIu32 " %s term=%" PRIu64 " leader=%" PRIu32 " last=%" PRIu64
                         "@%" PRIu64 " applied=%" PRIu64 "%s%s",
                         i, roles[node->output.role], node->output.term, node->output.leader,
                         raft_last_index(node->raft),
                         raft_entry_term(node->raft, raft_last_index(node->raft)),
                         node->output.commit_index, node->output.is_quiet ? " quiet" : "",
                         node->output.is_impaired ? " impaired" : "");
    }
}

static void run_log(struct script *script)
{
    const struct raft__world_node *node = node_at(script, 1);
    buffer_append_format(&script->world.shown, "%" PRIu32 ":", node->id);
    for (raft_index i = node->log.first_index; i <= node->log.last_index; i++) {
        const struct raft__world_entry *entry = raft__world_entry_at(&node->log, i);
        buffer_append_format(&script->world.shown, " %" PRIu64 "@%" PRIu64 "%s", i, entry->term,
                             entry->kind == RAFT_ENTRY_EMPTY           ? "(empty)"
                             : entry->kind == RAFT_ENTRY_CONFIGURATION ? "(configuration)"
                                                                       : "");
    }
    buffer_append_byte(&script->world.shown, '\n');
}

static void run_peers(struct script *script)
{
    static const char *const names[] = {"probe", "replicate", "snapshot"};
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t count = raft_get_peers(node_at(script, 1)->raft, peers);
    for (uint32_t i = 0; i < count; i++) {
        raft__world_show(&script->world, "%" PRIu32 " %s match=%" PRIu64 " next=%" PRIu64 "%s",
                         peers[i].node, names[peers[i].progress], peers[i].match_index,
                         peers[i].next_index, peers[i].is_voter ? "" : " learner");
    }
}

static void run_reads(struct script *script)
{
    struct raft__world_node *node = node_at(script, 1);
    tick_one(&script->world, node->id);
    const struct raft_output *output = &node->output;
    if (output->role != RAFT_ROLE_LEADER) {
        raft__world_show(&script->world, "not a leader");
        return;
    }
    char lease[64] = "none";
    if (output->lease_until_ms == UINT64_MAX) {
        (void)snprintf(lease, sizeof lease, "for ever");
    } else if (output->lease_until_ms > 0) {
        (void)snprintf(lease, sizeof lease, "%" PRIu64 " ms",
                       output->lease_until_ms - node->now_ms);
    }
    raft__world_show(&script->world, "round=%" PRIu64 " confirmed=%" PRIu64 " lease=%s",
                     output->round, output->confirmed_round, lease);
}

static void run_network(struct script *script)
{
    for (uint32_t i = 0; i < script->world.network.count; i++) {
        const struct raft_message *message = &script->world.network.items[i].message;
        raft__world_show(&script->world, "%" PRIu32 "->%" PRIu32 " %s", message->from, message->to,
                         raft__world_kind_name(message->kind));
    }
}

static void run_sleep(struct script *script)
{
    if (script->word_count > 2) {
        node_at(script, 2)->now_ms += number(script, 1, 0);
    } else {
        sleep_all(&script->world, number(script, 1, 0));
    }
}

static void run_show(struct script *script)
{
    set_show(&script->world, word(script, 1));
}

/* ---- Files ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(struct script *script);
} commands[] = {
    {"group", run_group},       {"sleep", run_sleep},       {"tick", run_tick},
    {"campaign", run_campaign}, {"elect", run_elect},       {"propose", run_propose},
    {"confirm", run_confirm},   {"transfer", run_transfer}, {"configure", run_configure},
    {"deliver", run_deliver},   {"drop", run_deliver},      {"persist", run_persist},
    {"settle", settle},         {"crash", run_crash},       {"restart", run_restart},
    {"store", run_store},       {"compact", run_compact},   {"damage", run_damage},
    {"lost", run_lost},         {"found", run_found},       {"unreachable", run_unreachable},
    {"snapshot", run_snapshot}, {"states", run_states},     {"log", run_log},
    {"peers", run_peers},       {"reads", run_reads},       {"network", run_network},
    {"show", run_show},         {"cut", run_cut},
};

static void run_line(struct script *script, const char *line)
{
    char *copy = strdup(line);
    char *rest = NULL;
    script->word_count = 0;
    for (char *part = strtok_r(copy, " ", &rest); part != NULL && part[0] != '#';
         part = strtok_r(NULL, " ", &rest)) {
        assert_true(script->word_count < WORD_COUNT_MAX);
        script->words[script->word_count++] = part;
    }
    bool is_known = script->word_count == 0;
    for (size_t i = 0; !is_known && i < sizeof commands / sizeof *commands; i++) {
        if (is_word(script, 0, commands[i].name)) {
            commands[i].run(script);
            is_known = true;
        }
    }
    if (!is_known) {
        fail_msg("%s: what is `%s`?", script->path, line);
    }
    if (script->world.violation[0] != '\0') {
        fail_msg("%s: after `%s`: %s", script->path, line, script->world.violation);
    }
    free(copy);
}

static void scene_begin(void *context, const char *path)
{
    struct script *script = context;
    raft__world_init(&script->world);
    script->path = path;
}

static void scene_run(void *context, const char *line)
{
    run_line(context, line);
}

static void scene_show(void *context, struct buffer *output)
{
    struct buffer *shown = &((struct script *)context)->world.shown;
    buffer_append(output, shown->size_bytes > 0 ? buffer_bytes(shown) : BYTES("ok\n"));
    buffer_clear(shown);
}

static void scene_end(void *context)
{
    raft__world_deinit(&((struct script *)context)->world);
}

static void texts_come_out_as_written(void **state)
{
    (void)state;
    static struct script script;
    testdata_run(&(struct testdata){.folder = "src/core/raft/testdata",
                                    .scene = &script,
                                    .is_kept = true,
                                    .begin = scene_begin,
                                    .run = scene_run,
                                    .show = scene_show,
                                    .end = scene_end});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_out_as_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
