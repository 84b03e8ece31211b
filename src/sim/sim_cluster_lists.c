/* SPDX-License-Identifier: Apache-2.0 */
/* Lists: keys that are appended to and read, alone and in transactions, whose content tells in which
 * order that was. Keys of all shards are one history. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"

struct one_list {
    char key[16];
    uint32_t place;
    struct buffer end;
};

struct cluster_lists {
    struct one_list lists[CLUSTER_LIST_COUNT_MAX];
    uint32_t count;
    uint32_t element_count; /* Drawn so far. */
    struct sim__list_operation *operations;
    uint32_t operation_count;
    uint32_t operation_capacity;
};

uint32_t sim__cluster_place_of_key(const struct cluster *cluster, struct bytes key)
{
    return slots_shard_of(&cluster->slots, kv_slot_of_key(key)) - 1;
}

/* The shards take turns. */
struct cluster_lists *sim__cluster_lists_create(struct cluster *cluster)
{
    struct cluster_lists *lists = memory_allocate_zeroed(1, sizeof *lists);
    uint32_t number = 0;
    while (lists->count < cluster->nature.list_count) {
        struct one_list *list = &lists->lists[lists->count];
        list->place = lists->count % cluster->nature.shard_count;
        do {
            (void)snprintf(list->key, sizeof list->key, "l%u", number++);
        } while (sim__cluster_place_of_key(cluster, bytes_of_text(list->key)) != list->place);
        lists->count++;
    }
    return lists;
}

void sim__cluster_lists_destroy(struct cluster_lists *lists)
{
    for (uint32_t i = 0; i < lists->count; i++) {
        buffer_deinit(&lists->lists[i].end);
    }
    for (uint32_t i = 0; i < lists->operation_count; i++) {
        struct sim__list_operation *operation = &lists->operations[i];
        for (uint32_t k = 0; k < operation->step_count; k++) {
            memory_free((void *)(uintptr_t)operation->steps[k].seen.data);
        }
        memory_free(operation->steps);
    }
    memory_free(lists->operations);
    memory_free(lists);
}

struct bytes sim__cluster_list_key(const struct cluster_lists *lists, uint32_t list)
{
    return bytes_of_text(lists->lists[list].key);
}

uint32_t sim__cluster_list_place(const struct cluster_lists *lists, uint32_t list)
{
    return lists->lists[list].place;
}

uint32_t sim__cluster_list_in(struct cluster *cluster, uint32_t place)
{
    uint32_t count = cluster->nature.shard_count;
    uint32_t turns = (cluster->lists->count - place + count - 1) / count;
    return place + count * (uint32_t)random_below(&cluster->random, turns);
}

static uint32_t find(const struct cluster_lists *lists, struct bytes key)
{
    uint32_t list = 0;
    while (!bytes_equal(key, bytes_of_text(lists->lists[list].key))) {
        ASSERT(++list < lists->count);
    }
    return list;
}

/* ---- Questions ------------------------------------------------------------------------------- */

bool sim__cluster_question_is_of_lists(const struct cluster_question *question)
{
    return question->arguments[0].data[0] == 'l';
}

void sim__cluster_list_question_draw(struct cluster *cluster, struct cluster_question *question,
                                     uint32_t list, bool may_cross)
{
    struct cluster_lists *lists = cluster->lists;
    uint64_t choice = random_below(&cluster->random, 8);
    const char *name = choice < 4 ? "append" : choice < 7 ? "get" : "mget";
    *question = (struct cluster_question){
        .command = kv_command_find(bytes_of_text(name)),
        .place = lists->lists[list].place,
        .started_at_us = cluster->now_us,
        .started_at = sim__cluster_history_moment(cluster->history),
    };
    sim__cluster_question_add(question, sim__cluster_list_key(lists, list));
    if (choice < 4) {
        char element[16];
        int size = snprintf(element, sizeof element, "%u,", ++lists->element_count);
        sim__cluster_question_add(question, bytes_make(element, (size_t)size));
        question->is_unique = true;
    }
    for (uint32_t i = 0; i < lists->count && choice == 7; i++) {
        bool may_be = i != list && (may_cross || (lists->lists[i].place == question->place &&
                                                  !cluster->nature.does_split));
        if (may_be && question->argument_count < CLUSTER_ARGUMENT_COUNT_MAX) {
            sim__cluster_question_add(question, sim__cluster_list_key(lists, i));
        }
    }
}

/* ---- What was seen --------------------------------------------------------------------------- */

/* The content of a bulk string, or nothing, in memory of its own. */
static struct bytes content_of(struct bytes reply)
{
    const uint8_t *end = memchr(reply.data, '\n', reply.size_bytes);
    ASSERT(end != NULL && reply.data[0] == '$');
    size_t size =
        reply.data[1] == '-' ? 0 : (size_t)strtoull((const char *)reply.data + 1, NULL, 10);
    uint8_t *copy = memory_allocate(size + 1);
    if (size > 0) {
        memcpy(copy, end + 1, size);
    }
    return bytes_make(copy, size);
}

static struct sim__list_step *add_step(struct cluster_observation *observation, uint32_t list)
{
    struct sim__list_operation *operation = &observation->operation;
    if (operation->step_count == observation->capacity) {
        observation->capacity = 2 * observation->capacity + 2;
        operation->steps =
            memory_resize(operation->steps, observation->capacity * sizeof operation->steps[0]);
    }
    struct sim__list_step *step = &operation->steps[operation->step_count++];
    *step = (struct sim__list_step){.list = list};
    return step;
}

static bool is_error(struct bytes reply)
{
    return reply.size_bytes > 0 && reply.data[0] == '-';
}

void sim__cluster_observe(struct cluster *cluster, struct cluster_observation *observation,
                          struct cluster_question *question, struct bytes reply,
                          enum cluster_knowledge knowledge)
{
    if (knowledge == CLUSTER_DONE && is_error(reply)) {
        sim__cluster_fail(cluster, "%s of lists is answered with an error: %.*s",
                          question->command->name, (int)reply.size_bytes, (const char *)reply.data);
        knowledge = CLUSTER_DONE_ONLY;
    }
    bool is_append = strcmp(question->command->name, "append") == 0;
    bool is_array = strcmp(question->command->name, "mget") == 0;
    if (knowledge == CLUSTER_DONE && is_array) {
        reply = bytes_make(reply.data + 4, reply.size_bytes - 4); /* One digit. */
    }
    for (uint32_t i = 0; i < (is_append ? 1 : question->argument_count); i++) {
        struct sim__list_step *step =
            add_step(observation, find(cluster->lists, question->arguments[i]));
        if (is_append) {
            step->element = (uint32_t)strtoul((const char *)question->arguments[1].data, NULL, 10);
        } else if (knowledge == CLUSTER_DONE) {
            step->is_seen = true;
            step->seen = content_of(is_array ? sim__cluster_take_reply(&reply) : reply);
        }
    }
    sim__cluster_question_forget(question);
}

void sim__cluster_observe_watched(struct cluster_observation *observation, uint32_t list,
                                  struct bytes reply)
{
    struct sim__list_step *step = add_step(observation, list);
    step->is_seen = true;
    step->seen = content_of(reply);
}

void sim__cluster_observed(struct cluster *cluster, struct cluster_observation *observation,
                           enum cluster_knowledge knowledge)
{
    struct cluster_lists *lists = cluster->lists;
    if (observation->operation.step_count == 0) {
        return;
    }
    if (lists->operation_count == lists->operation_capacity) {
        lists->operation_capacity = 2 * lists->operation_capacity + 64;
        lists->operations = memory_resize(lists->operations,
                                          lists->operation_capacity * sizeof lists->operations[0]);
    }
    observation->operation.is_optional = knowledge == CLUSTER_UNKNOWN;
    observation->operation.ended_at =
        knowledge == CLUSTER_UNKNOWN ? UINT64_MAX : sim__cluster_history_moment(cluster->history);
    lists->operations[lists->operation_count++] = observation->operation;
}

void sim__cluster_list_ends(struct cluster *cluster, uint32_t list, struct bytes reply)
{
    struct bytes content = content_of(reply);
    buffer_clear(&cluster->lists->lists[list].end);
    buffer_append(&cluster->lists->lists[list].end, content);
    memory_free((void *)(uintptr_t)content.data);
}

static void print_operation(const struct cluster *cluster,
                            const struct sim__list_operation *operation)
{
    FILE *trace = cluster->options.trace;
    (void)fprintf(
        trace, "operation %" PRIu64 "-%" PRIu64 " session %" PRIu64 "%s:", operation->started_at,
        operation->ended_at, operation->session, operation->is_optional ? " unknown" : "");
    for (uint32_t k = 0; k < operation->step_count; k++) {
        const struct sim__list_step *step = &operation->steps[k];
        if (step->element != 0) {
            (void)fprintf(trace, " append %s %u", cluster->lists->lists[step->list].key,
                          step->element);
        } else {
            size_t size = step->seen.size_bytes < 24 ? step->seen.size_bytes : 24;
            (void)fprintf(
                trace, " get %s %s%.*s", cluster->lists->lists[step->list].key,
                step->is_seen ? "..." : "?", (int)size,
                step->is_seen ? (const char *)step->seen.data + step->seen.size_bytes - size : "");
        }
    }
    (void)fprintf(trace, "\n");
}

void sim__cluster_lists_check(struct cluster *cluster)
{
    struct cluster_lists *lists = cluster->lists;
    struct bytes ends[CLUSTER_LIST_COUNT_MAX];
    for (uint32_t i = 0; i < lists->count; i++) {
        ends[i] = buffer_bytes(&lists->lists[i].end);
    }
    char text[SIM_REASON_SIZE];
    const char *failure =
        sim__lists_check(lists->operations, lists->operation_count, ends, lists->count, text);
    if (failure == NULL) {
        return;
    }
    for (uint32_t i = 0; i < lists->operation_count && cluster->options.trace != NULL; i++) {
        print_operation(cluster, &lists->operations[i]);
    }
    sim__cluster_fail(cluster, "%s", failure);
}
