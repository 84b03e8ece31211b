/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: placement takes the steps that each testdata/\*.txt of this folder says, for its reason.
 *
 * A block is commands, "----", and what happened, up to an empty line; each block begins with nothing
 * at time 0. UPDATE=1 rewrites what was expected. Sizes and capacities are in gigabytes.
 *
 *   node 1 [zone=1] [capacity=1000] [used=0] [silent]
 *                                               nodes in ascending order; zone 0 if not said
 *   group 7 voters=1,2,3 [leader=1] [learners=4,5*] [size=1] [load=0] [replicas=3] [changing]
 *           [kept]
 *                                               in ascending order; 5* is caught up
 *   groups 16 voters=1 …                        as many, from 1
 *   policy [replicas=3] [grace=300] [fill=2] [full=900] [tolerance=100] [balance=on|zones|off]
 *   alive 2, suspect 2, dead 2, left 2, drain 2, slow 2, fast 2, remove 2
 *   time 60                                     let that many seconds pass
 *   plan                                        the steps that would be taken now
 *   run [quiet]                                 take them, and so on until nothing is to be done
 *   show                                        groups, each leader with *, learners with +
 *   nodes                                       replicas and leaders of each node */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/placement/placement_internal.h"
#include "core/placement/placement_world.h"
#include "tests/testdata/testdata.h"

enum { NODE_COUNT_MAX = 64, GROUP_COUNT_MAX = 4096, ROUND_COUNT_MAX = 300 };

struct scene {
    struct placement__world world;
    struct buffer output;
};

/* ---- What is shown --------------------------------------------------------------------------- */

static void say_step(struct scene *scene, const struct placement_step *step)
{
    buffer_append_format(&scene->output, "%u: %s %u", step->group, placement_kind_text(step->kind),
                         step->node);
    if (step->other != 0) {
        buffer_append_format(&scene->output, "%s%u",
                             step->kind == PLACEMENT_REPLACE ? " for " : ",", step->other);
    }
    buffer_append_format(&scene->output, " (%s)\n", placement_reason_text(step->reason));
}

static void say_health(struct scene *scene, const struct placement_output *output)
{
    for (uint32_t health = 0; health < PLACEMENT_HEALTH_COUNT; health++) {
        if (output->health_counts[health] > 0) {
            buffer_append_format(&scene->output, "%s %u  ",
                                 placement_health_text((enum placement_health)health),
                                 output->health_counts[health]);
        }
    }
    buffer_append_format(&scene->output, "under-replicated %u", output->under_replicated_count);
    if (output->wake_at_ms != UINT64_MAX) {
        buffer_append_format(&scene->output, "  wake in %u s",
                             (unsigned)((output->wake_at_ms - scene->world.now_ms) / 1000));
    }
    buffer_append_byte(&scene->output, '\n');
}

static void say_groups(struct scene *scene)
{
    for (uint32_t i = 0; i < scene->world.group_count; i++) {
        const struct placement_group_state *group = &scene->world.groups[i];
        buffer_append_format(&scene->output, "%u:", group->id);
        for (uint8_t j = 0; j < group->voter_count; j++) {
            buffer_append_format(&scene->output, " %u%s", group->voters[j],
                                 group->voters[j] == group->leader ? "*" : "");
        }
        for (uint8_t j = 0; j < group->learner_count; j++) {
            buffer_append_format(&scene->output, " +%u", group->learners[j].node);
        }
        buffer_append_byte(&scene->output, '\n');
    }
}

static void say_nodes(struct scene *scene)
{
    for (uint32_t i = 0; i < scene->world.node_count; i++) {
        placement_node id = scene->world.nodes[i].id;
        buffer_append_format(&scene->output, "%u: replicas %u leaders %u\n", id,
                             placement__world_replica_count(&scene->world, id),
                             placement__world_leader_count(&scene->world, id));
    }
}

static void run(struct scene *scene, bool is_quiet)
{
    struct placement__world *world = &scene->world;
    struct placement_output output = {0};
    placement__world_forget_counts(world);
    uint32_t round = 0;
    for (; round < ROUND_COUNT_MAX; round++) {
        bool is_busy = placement__world_is_busy(world);
        placement__world_round(world, &output);
        for (uint32_t i = 0; i < output.step_count && !is_quiet; i++) {
            say_step(scene, &output.steps[i]);
        }
        if (output.step_count == 0 && !is_busy) {
            break;
        }
    }
    if (round == ROUND_COUNT_MAX) {
        buffer_append(&scene->output, BYTES("does not settle\n"));
    }
    for (uint32_t kind = 0; is_quiet && kind <= PLACEMENT_TRANSFER_LEADER; kind++) {
        if (world->kind_counts[kind] > 0) {
            buffer_append_format(&scene->output, "%s %u  ",
                                 placement_kind_text((enum placement_kind)kind),
                                 world->kind_counts[kind]);
        }
    }
    say_health(scene, &output);
}

/* ---- Commands -------------------------------------------------------------------------------- */

/* The text behind "name=", or NULL. */
static const char *option_text(const char *line, const char *name)
{
    char key[32];
    (void)snprintf(key, sizeof key, " %s=", name);
    const char *place = strstr(line, key);
    return place == NULL ? NULL : place + strlen(key);
}

static uint64_t option(const char *line, const char *name, uint64_t otherwise)
{
    const char *text = option_text(line, name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static uint32_t first_number(const char *line)
{
    return (uint32_t)strtoul(strchr(line, ' ') + 1, NULL, 10);
}

static void add_node(struct scene *scene, const char *line)
{
    struct placement_node_state *node = placement__world_add_node(
        &scene->world, first_number(line), (uint32_t)option(line, "zone", 0));
    node->capacity_bytes = option(line, "capacity", 1000) << 30;
    node->used_bytes = option(line, "used", 0) << 30;
    node->is_silent = strstr(line, " silent") != NULL;
}

static void add_group(struct scene *scene, const char *line, placement_group id)
{
    struct placement_group_state *group = placement__world_add_group(&scene->world, id);
    const char *place = option_text(line, "voters");
    while (place != NULL && *place >= '0' && *place <= '9') {
        char *end;
        group->voters[group->voter_count++] = (placement_node)strtoul(place, &end, 10);
        place = *end == ',' ? end + 1 : end;
    }
    place = option_text(line, "learners");
    while (place != NULL && *place >= '0' && *place <= '9') {
        char *end;
        struct placement_learner *learner = &group->learners[group->learner_count++];
        learner->node = (placement_node)strtoul(place, &end, 10);
        learner->is_caught_up = *end == '*';
        end += *end == '*';
        place = *end == ',' ? end + 1 : end;
    }
    group->leader = (placement_node)option(line, "leader", group->voters[0]);
    group->size_bytes = option(line, "size", 1) << 30;
    group->load = (uint32_t)option(line, "load", 0);
    group->replica_count = (uint8_t)option(line, "replicas", 0);
    group->is_changing = strstr(line, " changing") != NULL;
    group->is_leader_kept = strstr(line, " kept") != NULL;
}

static enum placement_balance balance_of(const char *text)
{
    if (text == NULL || strncmp(text, "on", 2) == 0) {
        return PLACEMENT_BALANCE_ALL;
    }
    if (strncmp(text, "off", 3) == 0) {
        return PLACEMENT_BALANCE_NONE;
    }
    assert_int_equal(strncmp(text, "zones", 5), 0);
    return PLACEMENT_BALANCE_ZONES;
}

static void set_policy(struct scene *scene, const char *line)
{
    scene->world.policy = (struct placement_policy){
        .replica_count = (uint8_t)option(line, "replicas", 3),
        .dead_grace_ms = option(line, "grace", 0) * 1000,
        .fill_count_max = (uint32_t)option(line, "fill", 0),
        .full_permille = (uint32_t)option(line, "full", 0),
        .tolerance_permille = (uint32_t)option(line, "tolerance", 0),
        .balance = balance_of(option_text(line, "balance")),
    };
}

static bool is_word(const char *line, const char *word)
{
    size_t size = strlen(word);
    return strncmp(line, word, size) == 0 && (line[size] == ' ' || line[size] == '\0');
}

static bool run_node(struct scene *scene, const char *line)
{
    static const char *const words[] = {"alive", "suspect", "dead", "left"};
    for (uint32_t i = 0; i < 4; i++) {
        if (is_word(line, words[i])) {
            placement__world_set_liveness(&scene->world, first_number(line),
                                          (enum placement_liveness)i);
            return true;
        }
    }
    if (is_word(line, "drain")) {
        placement__world_node(&scene->world, first_number(line))->is_draining = true;
        return true;
    }
    if (is_word(line, "slow") || is_word(line, "fast")) {
        placement__world_node(&scene->world, first_number(line))->is_slow = is_word(line, "slow");
        return true;
    }
    if (is_word(line, "remove")) {
        placement__world_remove_node(&scene->world, first_number(line));
        return true;
    }
    return false;
}

static void plan(struct scene *scene)
{
    struct placement_output output;
    placement__world_plan(&scene->world, &output);
    for (uint32_t i = 0; i < output.step_count; i++) {
        say_step(scene, &output.steps[i]);
    }
    say_health(scene, &output);
}

static void run_line(struct scene *scene, const char *line)
{
    if (is_word(line, "node")) {
        add_node(scene, line);
    } else if (is_word(line, "group")) {
        add_group(scene, line, first_number(line));
    } else if (is_word(line, "groups")) {
        for (uint32_t i = 1; i <= first_number(line); i++) {
            add_group(scene, line, i);
        }
    } else if (is_word(line, "policy")) {
        set_policy(scene, line);
    } else if (is_word(line, "time")) {
        scene->world.now_ms += first_number(line) * UINT64_C(1000);
    } else if (is_word(line, "plan")) {
        plan(scene);
    } else if (is_word(line, "run")) {
        run(scene, strstr(line, " quiet") != NULL);
    } else if (is_word(line, "show")) {
        say_groups(scene);
    } else if (is_word(line, "nodes")) {
        say_nodes(scene);
    } else if (!run_node(scene, line)) {
        fail_msg("unknown command: %s", line);
    }
}

/* ---- Scenes ---------------------------------------------------------------------------------- */

static void scene_begin(void *context, const char *path)
{
    (void)path;
    struct scene *scene = context;
    *scene = (struct scene){0};
    placement__world_init(&scene->world, NODE_COUNT_MAX, GROUP_COUNT_MAX);
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
    placement__world_deinit(&scene->world);
    buffer_deinit(&scene->output);
}

static void test_testdata(void **state)
{
    (void)state;
    struct scene scene;
    testdata_run(&(struct testdata){.folder = "src/core/placement/testdata",
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
