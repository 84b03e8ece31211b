/* SPDX-License-Identifier: Apache-2.0 */
/* Is a history linearizable? And what two replies must share to be called equal.
 *
 * The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993): take any
 * operation that may come first, see whether a model of the key gives the same reply, go on with
 * the rest, and come back when it does not. As Lowe does ("Testing for Linearizability", 2017),
 * sets of operations that were tried with the same state are remembered and not tried again. One
 * key at a time: a history is linearizable exactly when that of each object is (Herlihy and Wing,
 * 1990).
 *
 * Two things are added. An operation that a kill left without an answer may be left out, and if it
 * counts, then before the next life of the node was ready. And operations of one session take
 * effect in their order, although a pipeline has several under way. */
#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_internal.h"

enum { STEP_COUNT_MAX = 200000, SEEN_COUNT_FIRST = 1024 };

/* ---- Replies --------------------------------------------------------------------------------- */

static bool is_unordered(const struct kv_command *command)
{
    static const char *const names[] = {"hgetall", "hkeys", "hvals", "keys", "scan", "hscan"};
    for (uint32_t i = 0; command != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(command->name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The line at `*place`, without its end; moves behind it. */
static struct bytes take_line(struct bytes whole, size_t *place)
{
    size_t start = *place;
    size_t end = start;
    while (end < whole.size_bytes && whole.data[end] != '\r') {
        end++;
    }
    *place = end + 2 <= whole.size_bytes ? end + 2 : whole.size_bytes;
    return bytes_make(whole.data + start, end - start);
}

static uint64_t line_number(struct bytes line)
{
    uint64_t number = 0;
    for (size_t i = 1; i < line.size_bytes; i++) {
        number = number * 10 + (uint64_t)(line.data[i] - '0');
    }
    return number;
}

static uint64_t take_element_hash(struct bytes whole, size_t *place)
{
    size_t start = *place;
    struct bytes line = take_line(whole, place);
    if (line.size_bytes > 1 && line.data[0] == '$' && line.data[1] != '-') {
        *place += line_number(line) + 2;
    }
    *place = *place < whole.size_bytes ? *place : whole.size_bytes;
    return hash_bytes(bytes_make(whole.data + start, *place - start), 1);
}

uint64_t sim__reply_hash(const struct kv_command *command, struct bytes reply)
{
    size_t place = 0;
    if (reply.size_bytes > 0 && reply.data[0] == '-') {
        struct bytes line = take_line(reply, &place);
        size_t length = 0;
        while (length < line.size_bytes && line.data[length] != ' ') {
            length++;
        }
        return hash_bytes(bytes_make(line.data, length), 2);
    }
    if (reply.size_bytes == 0 || strchr("*%~", reply.data[0]) == NULL || !is_unordered(command)) {
        return hash_bytes(reply, 3);
    }
    bool has_pairs = strcmp(command->name, "hgetall") == 0;
    uint64_t sum = hash_bytes(take_line(reply, &place), 4);
    while (place < reply.size_bytes) {
        uint64_t hash = take_element_hash(reply, &place);
        if (has_pairs) {
            uint64_t value_hash = take_element_hash(reply, &place);
            hash = hash_bytes(bytes_make(&value_hash, sizeof value_hash), hash);
        }
        sum += hash * 0x9e3779b97f4a7c15u;
    }
    return sum;
}

uint64_t sim__content_hash(struct bytes reply)
{
    uint64_t sum = 0;
    size_t place = 0;
    while (place < reply.size_bytes) {
        size_t start = place;
        struct bytes line = take_line(reply, &place);
        char kind = (char)line.data[0];
        struct bytes text = bytes_make(line.data + 1, line.size_bytes - 1);
        bool is_null = kind == '_' ||
                       (text.size_bytes > 0 && text.data[0] == '-' && (kind == '*' || kind == '$'));
        if (!is_null && strchr("*%~", kind) != NULL) {
            continue; /* RESP2 and RESP3 nest alike, or one of them not at all. */
        }
        if (is_null) {
            sum += hash_bytes(BYTES("null"), 6);
        } else if (kind == '-') {
            sum += sim__reply_hash(NULL, bytes_make(reply.data + start, place - start));
        } else if (kind == '$') {
            sum += hash_bytes(bytes_make(reply.data + place, line_number(line)), 7);
            place += line_number(line) + 2;
        } else if (kind == ',') {
            sum += hash_bytes(text, 7);
        } else {
            sum += hash_bytes(line, 8);
        }
    }
    return sum;
}

uint64_t sim__command_hash(const struct shard_command *command)
{
    uint64_t hash = command->opcode;
    for (uint32_t i = 0; i < command->argument_count; i++) {
        hash = hash_bytes(command->arguments[i], hash + 1);
    }
    return hash;
}

/* ---- The search ------------------------------------------------------------------------------ */

/* One operation that was taken, and what is needed to take it back. */
struct frame {
    struct sim__model before;
    uint32_t chosen;
    uint32_t first;        /* Operations before this one are taken, or can be no more. */
    uint64_t newest_start; /* Of the taken ones. */
    uint64_t earliest_end; /* Of those that must still be taken. */
    uint64_t taken_hash;
};

struct search {
    struct sim__operation *operations;
    uint32_t count;
    uint32_t needed_count; /* Not optional. */
    bool *is_taken;
    uint64_t *seen; /* An open hash table; 0 is an empty place. */
    uint32_t seen_count;
    uint32_t seen_capacity;
    struct sim__model state;
    uint32_t step_count;
};

static int by_start(const void *left, const void *right)
{
    uint64_t a = ((const struct sim__operation *)left)->started_at;
    uint64_t b = ((const struct sim__operation *)right)->started_at;
    return (a > b) - (a < b);
}

static void seen_insert(uint64_t *table, uint32_t capacity, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (capacity - 1);
    while (table[i] != 0) {
        i = (i + 1) & (capacity - 1);
    }
    table[i] = hash;
}

/* False when the state was seen before. */
static bool remember(struct search *search, uint64_t hash)
{
    hash = hash == 0 ? 1 : hash;
    uint32_t mask = search->seen_capacity - 1;
    for (uint32_t i = (uint32_t)hash & mask; search->seen[i] != 0; i = (i + 1) & mask) {
        if (search->seen[i] == hash) {
            return false;
        }
    }
    if (search->seen_count * 2 >= search->seen_capacity) {
        uint32_t capacity = search->seen_capacity * 2;
        uint64_t *table = memory_allocate_zeroed(capacity, sizeof(uint64_t));
        for (uint32_t i = 0; i < search->seen_capacity; i++) {
            if (search->seen[i] != 0) {
                seen_insert(table, capacity, search->seen[i]);
            }
        }
        memory_free(search->seen);
        search->seen = table;
        search->seen_capacity = capacity;
    }
    seen_insert(search->seen, search->seen_capacity, hash);
    search->seen_count++;
    return true;
}

/* Can the operation not count any more? */
static bool is_over(const struct sim__operation *operation, uint64_t newest_start)
{
    return operation->is_optional && operation->ended_at < newest_start;
}

/* What has to be known before choosing among the operations left. */
static void frame_prepare(const struct search *search, struct frame *frame)
{
    while (frame->first < search->count &&
           (search->is_taken[frame->first] ||
            is_over(&search->operations[frame->first], frame->newest_start))) {
        frame->first++;
    }
    frame->earliest_end = UINT64_MAX;
    for (uint32_t i = frame->first; i < search->count; i++) {
        const struct sim__operation *operation = &search->operations[i];
        if (operation->started_at > frame->earliest_end) {
            break;
        }
        if (!search->is_taken[i] && !operation->is_optional &&
            operation->ended_at < frame->earliest_end) {
            frame->earliest_end = operation->ended_at;
        }
    }
}

/* Has the session an earlier operation that is not taken? */
static bool is_behind(const struct search *search, const struct frame *frame, uint32_t index)
{
    for (uint32_t i = frame->first; i < index; i++) {
        if (!search->is_taken[i] &&
            search->operations[i].session == search->operations[index].session) {
            return true;
        }
    }
    return false;
}

/* Run the operation on the state. False when the model answers something else. */
static bool try_operation(struct search *search, const struct sim__operation *operation)
{
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = operation->protocol};
    struct shard_command command = {operation->command->opcode, operation->argument_count,
                                    operation->arguments};
    bool is_known = sim__model_execute(&search->state, 0, 0, &command, &reply);
    ASSERT(is_known);
    bool is_right =
        operation->is_reply_unknown || operation->is_optional ||
        sim__reply_hash(operation->command, buffer_bytes(&answer)) == operation->reply_hash;
    buffer_deinit(&answer);
    return is_right;
}

/* Take the next operation that fits, from `frame->chosen` on. */
static bool choose(struct search *search, struct frame *frame, uint64_t *taken_hash)
{
    for (; frame->chosen < search->count; frame->chosen++) {
        const struct sim__operation *operation = &search->operations[frame->chosen];
        if (operation->started_at > frame->earliest_end) {
            return false;
        }
        if (search->is_taken[frame->chosen] || is_over(operation, frame->newest_start) ||
            is_behind(search, frame, frame->chosen)) {
            continue;
        }
        search->step_count++;
        if (try_operation(search, operation)) {
            uint64_t place = frame->chosen + 1;
            *taken_hash = frame->taken_hash ^ hash_bytes(bytes_make(&place, sizeof place), 5);
            uint64_t state = sim__model_hash(&search->state);
            if (remember(search, hash_bytes(bytes_make(&state, sizeof state), *taken_hash))) {
                return true;
            }
        }
        sim__model_copy(&search->state, &frame->before);
    }
    return false;
}

static bool search_run(struct search *search, struct frame *frames)
{
    uint32_t depth = 0;
    uint32_t needed = search->needed_count;
    frame_prepare(search, &frames[0]);
    while (needed > 0 && search->step_count < STEP_COUNT_MAX) {
        struct frame *frame = &frames[depth];
        uint64_t taken_hash;
        if (choose(search, frame, &taken_hash)) {
            const struct sim__operation *operation = &search->operations[frame->chosen];
            search->is_taken[frame->chosen] = true;
            needed -= !operation->is_optional;
            struct frame *next = &frames[++depth];
            next->chosen = next->first = frame->first;
            next->newest_start = operation->started_at > frame->newest_start ? operation->started_at
                                                                             : frame->newest_start;
            next->taken_hash = taken_hash;
            sim__model_copy(&next->before, &search->state);
            frame_prepare(search, next);
            next->chosen = next->first;
            continue;
        }
        if (depth == 0) {
            return false;
        }
        frame = &frames[--depth];
        search->is_taken[frame->chosen] = false;
        needed += !search->operations[frame->chosen].is_optional;
        sim__model_copy(&search->state, &frame->before);
        frame->chosen++;
    }
    return needed == 0;
}

bool sim__is_linearizable(struct sim__operation *operations, uint32_t count, bool *is_given_up)
{
    *is_given_up = false;
    if (count == 0) {
        return true;
    }
    qsort(operations, count, sizeof operations[0], by_start);
    struct search search = {
        .operations = operations,
        .count = count,
        .is_taken = memory_allocate_zeroed(count, sizeof(bool)),
        .seen = memory_allocate_zeroed(SEEN_COUNT_FIRST, sizeof(uint64_t)),
        .seen_capacity = SEEN_COUNT_FIRST,
    };
    for (uint32_t i = 0; i < count; i++) {
        search.needed_count += !operations[i].is_optional;
    }
    struct frame *frames = memory_allocate_zeroed(count + 1u, sizeof(struct frame));
    bool is_found = search_run(&search, frames);
    *is_given_up = !is_found && search.step_count >= STEP_COUNT_MAX;
    for (uint32_t i = 0; i <= count; i++) {
        sim__model_deinit(&frames[i].before);
    }
    memory_free(frames);
    sim__model_deinit(&search.state);
    memory_free(search.seen);
    memory_free(search.is_taken);
    return is_found || *is_given_up;
}
