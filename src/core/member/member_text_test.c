/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: members follow the rules of SWIM and Lifeguard that each testdata/\*.txt of this folder
 * cites.
 *
 * A block is commands, "----", and what happened, up to an empty line; each block has a cluster of
 * its own. UPDATE=1 rewrites what was expected. An event is "time observer: node state@incarnation
 * (reason)"; times are in seconds since the cluster had settled, incarnations count from the first
 * start of the cluster, so 0 is that of a node that never had to contradict anybody.
 *
 *   cluster n=3 [running=1] [max=4] [seed=1]   start, and settle for two seconds without a word
 *   cluster n=3 running=1 phantoms=1       the others answer pings under incarnation 0, and no more
 *   cold n=3 …                             start, and tell everything
 *   run 2000                               let that many milliseconds pass
 *   crash 2, pause 2, resume 2, leave 2, join 4, remove 2
 *   restart 2 [back=5000]                  with the wall clock set back
 *   partition 1 | 2 3, oneway 1 2, heal    what passes and what does not
 *   loss 2, latency 1 5                    percent, milliseconds
 *   states                                 what each running node believes
 *   messages on                            show every message: "time from->to kind [records]"
 *   tell 1 from=2 3 dead@0 [by=2] [old]    give node 1 a record about node 3 in gossip from node 2
 *   ping 1 from=9                          give node 1 a ping
 *   load 2 requests=500, move 2 10.0.0.9:7000    what node 2 says of itself
 *   meta 1 2                               what node 1 knows of node 2
 *   health 1, spread 1                     local health multiplier; is the leave told? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/member/member_internal.h"
#include "core/member/member_world.h"
#include "tests/testdata/testdata.h"

enum { SETTLE_MS = 2000, NODE_COUNT_MAX = 32, INCARNATION_BASE = 1000000 };

/* A ping that a phantom has to answer. */
struct knock {
    member_node from;
    member_node to;
    uint32_t sequence;
};

struct scene {
    struct member__world *world;
    uint64_t start_ms;
    bool is_quiet;
    bool is_showing_messages;
    bool has_phantoms;
    struct knock knocks[64];
    uint32_t knock_count;
    struct buffer output;
};

/* ---- What is shown --------------------------------------------------------------------------- */

static void say_time(struct scene *scene, uint64_t now_ms)
{
    uint64_t since_ms = now_ms - scene->start_ms;
    buffer_append_format(&scene->output, "%u.%us ", (unsigned)(since_ms / 1000),
                         (unsigned)(since_ms % 1000 / 100));
}

static int64_t shown(member_incarnation incarnation)
{
    return (int64_t)incarnation - INCARNATION_BASE;
}

static void see_event(void *context, uint64_t now_ms, member_node observer,
                      const struct member_event *event)
{
    struct scene *scene = context;
    if (scene->is_quiet) {
        return;
    }
    say_time(scene, now_ms);
    buffer_append_format(&scene->output, "%u: %u %s", observer, event->node,
                         member_state_text(event->state));
    if (event->incarnation != 0) {
        buffer_append_format(&scene->output, "@%lld", (long long)shown(event->incarnation));
    }
    buffer_append_format(&scene->output, " (%s)\n", member_reason_text(event->reason));
}

static void say_records(struct scene *scene, const struct member__message *message,
                        const struct member__record *records)
{
    uint32_t meta_count = 0;
    for (uint8_t i = 0; i < message->record_count; i++) {
        const struct member__record *record = &records[i];
        meta_count += record->has_meta;
        if (!record->is_fresh && message->kind < MEMBER__KIND_SYNC) {
            continue;
        }
        buffer_append_format(&scene->output, " [%u %s@%lld", record->node,
                             member_state_text(record->state),
                             (long long)shown(record->incarnation));
        for (uint8_t j = 0; j < record->accuser_count; j++) {
            buffer_append_format(&scene->output, "%s%u", j == 0 ? " by " : ",",
                                 record->accusers[j]);
        }
        buffer_append(&scene->output, BYTES("]"));
    }
    if (meta_count > 0) {
        buffer_append_format(&scene->output, " %u meta%s", meta_count, meta_count == 1 ? "" : "s");
    }
}

static void see_sent(void *context, uint64_t now_ms, member_node from,
                     const struct member_send *send)
{
    static const char *const kinds[] = {"",       "ping", "ack",       "nack", "ping_request",
                                        "gossip", "sync", "sync_reply"};
    struct scene *scene = context;
    struct member__message message;
    static struct member__record records[MEMBER__RECORD_COUNT_MAX];
    assert_int_equal(member__decode(send->message, &message, records), 0);
    if (scene->has_phantoms && message.kind == MEMBER__KIND_PING) {
        assert_true(scene->knock_count < sizeof scene->knocks / sizeof scene->knocks[0]);
        scene->knocks[scene->knock_count++] = (struct knock){from, send->node, message.sequence};
    }
    if (scene->is_quiet || !scene->is_showing_messages) {
        return;
    }
    say_time(scene, now_ms);
    buffer_append_format(&scene->output, "%u->%u %s", from, send->node, kinds[message.kind]);
    if (message.kind == MEMBER__KIND_PING_REQUEST || message.kind == MEMBER__KIND_NACK ||
        (message.kind == MEMBER__KIND_ACK && message.subject != from)) {
        buffer_append_format(&scene->output, " of %u", message.subject);
    }
    say_records(scene, &message, records);
    buffer_append_byte(&scene->output, '\n');
}

static void say_states(struct scene *scene)
{
    for (member_node node = 1; node <= NODE_COUNT_MAX; node++) {
        if (!member__world_is_running(scene->world, node)) {
            continue;
        }
        struct member *member = member__world_member(scene->world, node);
        buffer_append_format(&scene->output, "%u:", node);
        for (uint32_t i = 0; i < member_count(member); i++) {
            struct member_view view;
            member_list(member, i, &view);
            buffer_append_format(&scene->output, " %u=%s", view.node,
                                 member_state_text(view.state));
            if (view.incarnation != 0) {
                buffer_append_format(&scene->output, "@%lld", (long long)shown(view.incarnation));
            }
        }
        buffer_append_byte(&scene->output, '\n');
    }
}

static void say_meta(struct scene *scene, member_node at, member_node node)
{
    struct member_view view;
    assert_true(member_state(member__world_member(scene->world, at), node, &view));
    buffer_append_format(&scene->output, "%u: %u at %.*s", at, node, (int)view.address.size_bytes,
                         (const char *)view.address.data);
    if (view.meta != NULL) {
        buffer_append_format(&scene->output, " boot=%u requests=%u",
                             (unsigned)(view.meta->boot_id & UINT32_MAX),
                             view.meta->load.requests_per_s);
    }
    buffer_append_byte(&scene->output, '\n');
}

/* ---- Commands -------------------------------------------------------------------------------- */

/* The number behind "name=", or `otherwise`. */
static uint64_t option(const char *line, const char *name, uint64_t otherwise)
{
    char key[32];
    (void)snprintf(key, sizeof key, " %s=", name);
    const char *place = strstr(line, key);
    return place == NULL ? otherwise : strtoull(place + strlen(key), NULL, 10);
}

/* The number that is the word of this position. */
static uint32_t number(const char *line, uint32_t position)
{
    for (uint32_t i = 0; i < position; i++) {
        line = strchr(line, ' ');
        if (line == NULL) {
            fail_msg("word %u is missing", position);
            return 0;
        }
        line++;
    }
    return (uint32_t)strtoul(line, NULL, 10);
}

/* Cut what is on different sides of a "|". */
static void partition(struct scene *scene, const char *line)
{
    uint32_t sides[NODE_COUNT_MAX + 1] = {0};
    uint32_t side = 1;
    for (const char *place = strchr(line, ' '); *place != '\0';) {
        if (*place == '|') {
            side++;
        }
        if (*place >= '0' && *place <= '9') {
            char *end;
            sides[strtoul(place, &end, 10)] = side;
            place = end;
            continue;
        }
        place++;
    }
    for (member_node from = 1; from <= NODE_COUNT_MAX; from++) {
        for (member_node to = 1; to <= NODE_COUNT_MAX; to++) {
            member__world_cut(scene->world, from, to, sides[from] != sides[to]);
        }
    }
}

static void give(struct scene *scene, member_node at, member_node from,
                 struct member__message message, const struct member__record *record)
{
    uint8_t data[MEMBER_MESSAGE_SIZE_MAX];
    struct member__builder builder;
    member__build_start(&builder, data);
    if (record != NULL) {
        assert_true(member__build_record(&builder, record));
    }
    message.incarnation = INCARNATION_BASE;
    struct bytes bytes = member__build_end(&builder, &message);
    int status = member__world_step(
        scene->world, at,
        (struct member_input){.kind = MEMBER_INPUT_RECEIVE, .node = from, .message = bytes});
    assert_int_equal(status, 0);
}

static void run(struct scene *scene, uint64_t duration_ms)
{
    if (!scene->has_phantoms) {
        member__world_run(scene->world, duration_ms);
        return;
    }
    for (uint64_t past_ms = 0; past_ms < duration_ms; past_ms++) {
        member__world_run(scene->world, 1);
        uint32_t count = scene->knock_count;
        scene->knock_count = 0;
        for (uint32_t i = 0; i < count; i++) {
            struct knock knock = scene->knocks[i];
            give(scene, knock.from, knock.to,
                 (struct member__message){
                     .kind = MEMBER__KIND_ACK, .sequence = knock.sequence, .subject = knock.to},
                 NULL);
        }
    }
}

static void begin(struct scene *scene, const char *line, bool is_cold)
{
    assert_null(scene->world);
    uint32_t count = (uint32_t)option(line, "n", 3);
    struct member__world_options options = {
        .node_count = count,
        .node_count_max = NODE_COUNT_MAX,
        .running_count = (uint32_t)option(line, "running", count),
        .seed = option(line, "seed", 1),
        .latency_us_min = 300,
        .latency_us_max = 700,
        .context = scene,
        .event = see_event,
        .sent = see_sent,
    };
    scene->is_quiet = !is_cold;
    scene->has_phantoms = option(line, "phantoms", 0) != 0;
    scene->start_ms = 0;
    scene->world = member__world_create(&options);
    for (member_node node = 2; scene->has_phantoms && node <= count; node++) {
        give(scene, 1, node, (struct member__message){.kind = MEMBER__KIND_PING}, NULL);
    }
    if (!is_cold) {
        run(scene, SETTLE_MS);
        scene->start_ms = SETTLE_MS;
    }
    scene->is_quiet = false;
}

static void tell(struct scene *scene, const char *line)
{
    struct member__record record = {.node = number(line, 3), .is_fresh = true};
    for (uint32_t state = MEMBER_STATE_ALIVE; state <= MEMBER_STATE_LEFT; state++) {
        char word[16];
        (void)snprintf(word, sizeof word, " %s@", member_state_text((enum member_state)state));
        const char *place = strstr(line, word);
        if (place != NULL) {
            record.state = (enum member_state)state;
            record.incarnation = INCARNATION_BASE + strtoull(place + strlen(word), NULL, 10);
        }
    }
    assert_true(record.incarnation != 0);
    record.accusers[0] = (member_node)option(line, "by", 0);
    record.accuser_count = record.accusers[0] != 0;
    record.is_fresh = strstr(line, " old") == NULL;
    give(scene, number(line, 1), (member_node)option(line, "from", 0),
         (struct member__message){.kind = MEMBER__KIND_GOSSIP}, &record);
}

static void update(struct scene *scene, const char *line, bool is_move)
{
    member_node node = number(line, 1);
    struct member_meta meta = member__world_meta(scene->world, node);
    if (is_move) {
        const char *address = strrchr(line, ' ') + 1;
        assert_int_equal(member_meta_set_address(&meta, bytes_of_text(address)), 0);
    } else {
        meta.load.requests_per_s = (uint32_t)option(line, "requests", 0);
    }
    int status = member__world_step(
        scene->world, node, (struct member_input){.kind = MEMBER_INPUT_UPDATE_SELF, .meta = &meta});
    assert_int_equal(status, 0);
}

static bool is_word(const char *line, const char *word)
{
    size_t size = strlen(word);
    return strncmp(line, word, size) == 0 && (line[size] == ' ' || line[size] == '\0');
}

static bool run_world(struct scene *scene, const char *line)
{
    struct member__world *world = scene->world;
    if (is_word(line, "run")) {
        run(scene, number(line, 1));
    } else if (is_word(line, "crash")) {
        member__world_crash(world, number(line, 1));
    } else if (is_word(line, "restart")) {
        member__world_restart(world, number(line, 1), option(line, "back", 0));
    } else if (is_word(line, "pause")) {
        member__world_pause(world, number(line, 1));
    } else if (is_word(line, "resume")) {
        member__world_resume(world, number(line, 1));
    } else if (is_word(line, "leave")) {
        member__world_leave(world, number(line, 1));
    } else if (is_word(line, "join")) {
        member__world_join(world, number(line, 1));
    } else if (is_word(line, "remove")) {
        member__world_remove(world, number(line, 1));
    } else if (is_word(line, "partition")) {
        partition(scene, line);
    } else if (is_word(line, "oneway")) {
        member__world_cut(world, number(line, 1), number(line, 2), true);
    } else if (is_word(line, "heal")) {
        member__world_heal(world);
    } else if (is_word(line, "loss")) {
        member__world_set_loss(world, number(line, 1) * 10);
    } else if (is_word(line, "latency")) {
        member__world_set_latency(world, number(line, 1) * 1000, number(line, 2) * 1000);
    } else {
        return false;
    }
    return true;
}

static void run_line(struct scene *scene, const char *line)
{
    struct member_statistics statistics;
    if (is_word(line, "cluster") || is_word(line, "cold")) {
        begin(scene, line, is_word(line, "cold"));
    } else if (is_word(line, "states")) {
        say_states(scene);
    } else if (is_word(line, "messages")) {
        scene->is_showing_messages = true;
    } else if (is_word(line, "tell")) {
        tell(scene, line);
    } else if (is_word(line, "ping")) {
        give(scene, number(line, 1), (member_node)option(line, "from", 0),
             (struct member__message){.kind = MEMBER__KIND_PING, .sequence = 1}, NULL);
    } else if (is_word(line, "load") || is_word(line, "move")) {
        update(scene, line, is_word(line, "move"));
    } else if (is_word(line, "meta")) {
        say_meta(scene, number(line, 1), number(line, 2));
    } else if (is_word(line, "health")) {
        member_get_statistics(member__world_member(scene->world, number(line, 1)), &statistics);
        buffer_append_format(&scene->output, "%u: health %u late %u\n", number(line, 1),
                             statistics.health_multiplier, (unsigned)statistics.late_count);
    } else if (is_word(line, "spread")) {
        bool is_spread =
            member_leave_is_spread(member__world_member(scene->world, number(line, 1)));
        buffer_append_format(&scene->output, "%s\n", is_spread ? "yes" : "no");
    } else if (!run_world(scene, line)) {
        fail_msg("unknown command: %s", line);
    }
}

/* ---- Scenes ---------------------------------------------------------------------------------- */

static void scene_begin(void *context, const char *path)
{
    (void)path;
    *(struct scene *)context = (struct scene){0};
}

static void scene_run(void *context, const char *line)
{
    run_line(context, line);
}

static void scene_show(void *context, struct buffer *output)
{
    const struct scene *scene = context;
    buffer_append(output, buffer_bytes(&scene->output));
}

static void scene_end(void *context)
{
    struct scene *scene = context;
    if (scene->world != NULL) {
        member__world_destroy(scene->world);
    }
    buffer_deinit(&scene->output);
}

static void test_testdata(void **state)
{
    (void)state;
    struct scene scene;
    testdata_run(&(struct testdata){.folder = "src/core/member/testdata",
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
