/* SPDX-License-Identifier: Apache-2.0 */
/* What clients ask, and the history of what they saw. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"

struct cluster_history {
    struct cluster *cluster;
    uint64_t value_number;
    uint64_t moment; /* Counts beginnings and ends, in their order. */
    struct sim__operation *operations;
    uint32_t count;
    uint32_t capacity;
};

/* ---- What they ask --------------------------------------------------------------------------- */

static struct bytes copy_of(struct bytes source)
{
    uint8_t *copy = memory_allocate(source.size_bytes + 1);
    if (source.size_bytes > 0) {
        memcpy(copy, source.data, source.size_bytes);
    }
    return bytes_make(copy, source.size_bytes);
}

void sim__cluster_question_add(struct cluster_question *question, struct bytes argument)
{
    ASSERT(question->argument_count < CLUSTER_ARGUMENT_COUNT_MAX);
    question->arguments[question->argument_count++] = copy_of(argument);
}

void sim__cluster_question_add_value(struct cluster *cluster, struct cluster_question *question)
{
    struct buffer value = {0};
    buffer_append_format(&value, "unique:%" PRIu64, ++cluster->history->value_number);
    uint64_t length = random_below(&cluster->random, cluster->nature.value_size_max + 1u);
    while (value.size_bytes < length) {
        buffer_append_byte(&value, '.');
    }
    sim__cluster_question_add(question, buffer_bytes(&value));
    buffer_deinit(&value);
    question->is_unique = true;
}

void sim__cluster_question_add_key(struct cluster *cluster, struct cluster_question *question,
                                   char kind, uint64_t number)
{
    struct buffer key = {0};
    buffer_append_format(&key, "%c%" PRIu64, kind, number % cluster->nature.key_count);
    sim__cluster_question_add(question, buffer_bytes(&key));
    buffer_deinit(&key);
}

static uint32_t place_of(const struct cluster *cluster, char kind, uint64_t number)
{
    char key[32];
    int length = snprintf(key, sizeof key, "%c%" PRIu64, kind, number % cluster->nature.key_count);
    return sim__cluster_place_of_key(cluster, bytes_make(key, (size_t)length));
}

uint64_t sim__cluster_history_moment(struct cluster_history *history)
{
    return ++history->moment;
}

static bool draw_of_lists(struct cluster *cluster, struct cluster_question *question)
{
    uint32_t count = cluster->nature.list_count;
    if (count == 0 || !random_chance(&cluster->random, 1, 2)) {
        return false;
    }
    cluster->result->request_count++;
    sim__cluster_list_question_draw(cluster, question,
                                    (uint32_t)random_below(&cluster->random, count), false);
    return true;
}

void sim__cluster_question_draw(struct cluster *cluster, struct cluster_question *question)
{
    if (draw_of_lists(cluster, question)) {
        return;
    }
    static const struct {
        const char *name;
        bool has_value;
        bool has_two_keys;
    } choices[] = {{"get", false, false},  {"get", false, false},    {"get", false, false},
                   {"set", true, false},   {"set", true, false},     {"append", true, false},
                   {"incr", false, false}, {"incr", false, false},   {"getset", true, false},
                   {"setnx", true, false}, {"strlen", false, false}, {"del", false, false},
                   {"mget", false, true},  {"mset", true, true}};
    uint64_t choice = random_below(&cluster->random, sizeof choices / sizeof choices[0]);
    char kind = strcmp(choices[choice].name, "incr") == 0 ? 'c' : 'k';
    uint64_t key = random_below(&cluster->random, cluster->nature.key_count);
    bool has_two_keys = choices[choice].has_two_keys && cluster->nature.key_count > 1;
    question->command = kv_command_find(bytes_of_text(choices[choice].name));
    question->argument_count = 0;
    question->is_unique = false;
    question->place = place_of(cluster, kind, key);
    has_two_keys = has_two_keys && place_of(cluster, kind, key + 1) == question->place &&
                   !cluster->nature.does_split;
    for (uint64_t i = 0; i < 1u + has_two_keys; i++) {
        sim__cluster_question_add_key(cluster, question, kind, key + i);
        if (choices[choice].has_value) {
            sim__cluster_question_add_value(cluster, question);
        }
    }
    question->started_at_us = cluster->now_us;
    question->started_at = ++cluster->history->moment;
    cluster->result->request_count++;
}

bool sim__cluster_question_is_write(const struct cluster_question *question)
{
    return (question->command->flags & KV_FLAG_WRITE) != 0;
}

uint64_t sim__cluster_question_hash(const struct cluster_question *question)
{
    struct shard_command command = {question->command->opcode, question->argument_count,
                                    question->arguments};
    return sim__command_hash(&command);
}

void sim__cluster_question_forget(struct cluster_question *question)
{
    for (uint32_t i = 0; i < question->argument_count; i++) {
        memory_free((void *)(uintptr_t)question->arguments[i].data);
    }
    question->argument_count = 0;
}

/* ---- The history ----------------------------------------------------------------------------- */

/* One key's part of what the client did: arguments `first` and on. */
static void remember_part(struct cluster *cluster, const struct cluster_question *question,
                          const struct kv_command *command, uint32_t first, uint32_t argument_count,
                          struct bytes reply, enum cluster_knowledge knowledge)
{
    struct cluster_history *history = cluster->history;
    if (history->count == history->capacity) {
        history->capacity = history->capacity == 0 ? 64 : 2 * history->capacity;
        history->operations =
            memory_resize(history->operations, history->capacity * sizeof history->operations[0]);
    }
    struct bytes *arguments = memory_allocate(sizeof(struct bytes) * CLUSTER_ARGUMENT_COUNT_MAX);
    for (uint32_t i = 0; i < argument_count; i++) {
        arguments[i] = question->arguments[first + i];
    }
    history->operations[history->count++] = (struct sim__operation){
        .session = question->session,
        .started_at = question->started_at,
        .ended_at = knowledge != CLUSTER_UNKNOWN ? history->moment : UINT64_MAX,
        .is_optional = knowledge == CLUSTER_UNKNOWN,
        .is_reply_unknown = knowledge != CLUSTER_DONE,
        .reply_hash = knowledge == CLUSTER_DONE ? sim__reply_hash(command, reply) : 0,
        .command = command,
        .arguments = arguments,
        .argument_count = argument_count,
    };
}

/* A string, `$3` and three bytes, or `$-1`; or what is one line. */
struct bytes sim__cluster_take_reply(struct bytes *rest)
{
    const uint8_t *end = memchr(rest->data, '\n', rest->size_bytes);
    ASSERT(end != NULL && rest->data[0] != '*');
    size_t size = (size_t)(end - rest->data) + 1;
    if (rest->data[0] == '$' && rest->data[1] != '-') {
        size += strtoull((const char *)rest->data + 1, NULL, 10) + 2;
    }
    ASSERT(size <= rest->size_bytes);
    struct bytes taken = bytes_make(rest->data, size);
    *rest = bytes_make(rest->data + size, rest->size_bytes - size);
    return taken;
}

/* MGET and MSET are as many GET and SET at one moment. That they are at one moment is checked of
 * lists alone; the model does it for what is written. */
void sim__cluster_remember(struct cluster *cluster, struct cluster_question *question,
                           struct bytes reply, enum cluster_knowledge knowledge)
{
    const char *name = question->command->name;
    uint32_t count = question->argument_count;
    question->argument_count = 0; /* The history has them. */
    bool is_read = strcmp(name, "mget") == 0;
    if (!is_read && strcmp(name, "mset") != 0) {
        remember_part(cluster, question, question->command, 0, count, reply, knowledge);
        return;
    }
    const struct kv_command *command = kv_command_find(is_read ? BYTES("get") : BYTES("set"));
    uint32_t step = is_read ? 1 : 2;
    struct bytes rest = reply;
    if (is_read && knowledge == CLUSTER_DONE) {
        ASSERT(reply.size_bytes > 4 && reply.data[0] == '*'); /* And one digit. */
        rest = bytes_make(reply.data + 4, reply.size_bytes - 4);
    }
    for (uint32_t i = 0; i < count; i += step) {
        bool is_part = is_read && knowledge == CLUSTER_DONE;
        struct bytes part = is_part ? sim__cluster_take_reply(&rest) : reply;
        remember_part(cluster, question, command, i, step, part, knowledge);
    }
}

static void end(struct cluster *cluster, struct cluster_question *question, struct bytes reply,
                enum cluster_knowledge knowledge)
{
    cluster->history->moment++;
    if (!sim__cluster_question_is_of_lists(question)) {
        sim__cluster_remember(cluster, question, reply, knowledge);
        return;
    }
    struct cluster_observation observation = {
        .operation = {.session = question->session,
                      .is_of_pipeline = question->is_of_pipeline,
                      .started_at = question->started_at}};
    sim__cluster_observe(cluster, &observation, question, reply, knowledge);
    sim__cluster_observed(cluster, &observation, knowledge);
}

void sim__cluster_answered(struct cluster *cluster, struct cluster_question *question,
                           struct bytes reply)
{
    if (sim__cluster_question_is_write(question) && question->is_unique) {
        sim__cluster_oracle_acknowledged(cluster, sim__cluster_question_hash(question),
                                         sim__reply_hash(NULL, reply));
    }
    end(cluster, question, reply, CLUSTER_DONE);
}

void sim__cluster_unknown(struct cluster *cluster, struct cluster_question *question)
{
    end(cluster, question, BYTES(""), CLUSTER_UNKNOWN);
}

static int by_key(const void *left, const void *right)
{
    const struct sim__operation *a = left;
    const struct sim__operation *b = right;
    int order = bytes_compare(a->arguments[0], b->arguments[0]);
    return order != 0 ? order : (a->started_at > b->started_at) - (a->started_at < b->started_at);
}

void sim__cluster_history_check(struct cluster *cluster)
{
    struct cluster_history *history = cluster->history;
    if (history->count > 0) {
        qsort(history->operations, history->count, sizeof history->operations[0], by_key);
    }
    for (uint32_t start = 0, end = 0; start < history->count; start = end) {
        struct bytes key = history->operations[start].arguments[0];
        while (end < history->count && bytes_equal(history->operations[end].arguments[0], key)) {
            end++;
        }
        bool is_given_up = false;
        if (!sim__is_linearizable(history->operations + start, end - start, &is_given_up) &&
            !is_given_up) {
            sim__cluster_fail(cluster, "what clients saw of %.*s is not linearizable",
                              (int)key.size_bytes, (const char *)key.data);
            return;
        }
    }
}

struct cluster_history *sim__cluster_history_create(struct cluster *cluster)
{
    struct cluster_history *history = memory_allocate_zeroed(1, sizeof *history);
    history->cluster = cluster;
    return history;
}

void sim__cluster_history_destroy(struct cluster_history *history)
{
    for (uint32_t i = 0; i < history->count; i++) {
        for (uint32_t k = 0; k < history->operations[i].argument_count; k++) {
            memory_free((void *)(uintptr_t)history->operations[i].arguments[k].data);
        }
        memory_free(history->operations[i].arguments);
    }
    memory_free(history->operations);
    memory_free(history);
}
