/* SPDX-License-Identifier: Apache-2.0 */
/* Is there one order of all operations that explains what every client saw, and in which an operation
 * that was answered stands before those that were begun later?
 *
 * Elements are unique and lists only grow, so the lists at the end say in which order the appends
 * were. What a read saw must be the beginning of its list, and says between which two appends it
 * stands. All of that are edges of a graph: who must stand before whom. There is an order if and
 * only if the graph has no circle. (Adya's dependencies; as Elle does for list-append.) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/kv/kv_txn_world.h"

enum { ELEMENT_COUNT_MAX = KV__OPERATION_COUNT_MAX * KV__STEP_COUNT_MAX };

struct history {
    const struct kv__operation *operations;
    uint32_t operation_count;
    const struct buffer *lists;
    uint32_t key_count;
    /* By key: who appended the elements, in order. */
    uint32_t *writers[KV__KEY_COUNT_MAX];
    uint32_t writer_counts[KV__KEY_COUNT_MAX];
    uint8_t *edges; /* [from * count + to] */
    uint8_t *has_effect;
    char *text;
};

static const char *fail(struct history *history, const char *what, uint64_t a, uint64_t b)
{
    (void)snprintf(history->text, KV__FAILURE_SIZE, "%s (%llu, %llu)", what, (unsigned long long)a,
                   (unsigned long long)b);
    return history->text;
}

/* Who appends this element to this key, or operation_count. */
static uint32_t writer_of(const struct history *history, uint32_t key, uint64_t element)
{
    for (uint32_t i = 0; i < history->operation_count; i++) {
        for (uint32_t j = 0; j < history->operations[i].step_count; j++) {
            const struct kv__step *step = &history->operations[i].steps[j];
            if (step->key == key && step->element == element) {
                return i;
            }
        }
    }
    return history->operation_count;
}

static const char *read_lists(struct history *history)
{
    static uint64_t elements[ELEMENT_COUNT_MAX];
    for (uint32_t key = 0; key < history->key_count; key++) {
        struct bytes list = buffer_bytes(&history->lists[key]);
        uint32_t count = 0;
        history->writers[key] = memory_allocate((ELEMENT_COUNT_MAX + 1) * sizeof(uint32_t));
        for (size_t at = 0; at < list.size_bytes; at++) {
            uint64_t element = 0;
            for (; at < list.size_bytes && list.data[at] != ','; at++) {
                element = element * 10 + (uint64_t)(list.data[at] - '0');
            }
            for (uint32_t i = 0; i < count; i++) {
                if (elements[i] == element) {
                    return fail(history, "an append took effect twice: key, element", key, element);
                }
            }
            uint32_t writer = writer_of(history, key, element);
            if (writer == history->operation_count) {
                return fail(history, "nobody appended this: key, element", key, element);
            }
            elements[count] = element;
            history->writers[key][count++] = writer;
            history->has_effect[writer] = 1;
        }
        history->writer_counts[key] = count;
    }
    return NULL;
}

static bool is_there(const struct history *history, const struct kv__step *step)
{
    char element[32];
    int size = snprintf(element, sizeof element, "%llu,", (unsigned long long)step->element);
    const struct buffer *list = &history->lists[step->key];
    for (size_t at = 0; at + (size_t)size <= list->size_bytes; at++) {
        if (memcmp(list->data + at, element, (size_t)size) == 0 &&
            (at == 0 || list->data[at - 1] == ',')) {
            return true;
        }
    }
    return false;
}

/* All of it or nothing, as the client was told. */
static const char *check_effects(struct history *history)
{
    for (uint32_t i = 0; i < history->operation_count; i++) {
        const struct kv__operation *operation = &history->operations[i];
        bool must_be_there = operation->outcome == KV__DONE || history->has_effect[i] != 0;
        if (operation->outcome == KV__REFUSED && history->has_effect[i] != 0) {
            return fail(history, "it was refused, and took effect: operation", i, 0);
        }
        for (uint32_t j = 0; j < operation->step_count; j++) {
            const struct kv__step *step = &operation->steps[j];
            if (step->element != 0 && must_be_there && !is_there(history, step)) {
                return fail(history,
                            operation->outcome == KV__DONE ? "an acknowledged append is lost"
                                                           : "a half of a transaction",
                            i, j);
            }
        }
        if (operation->outcome == KV__DONE) {
            history->has_effect[i] = 1;
        }
    }
    return NULL;
}

static void add_edge(struct history *history, uint32_t from, uint32_t to)
{
    if (from != to) {
        history->edges[(size_t)from * history->operation_count + to] = 1;
    }
}

/* What an operation saw of a list places it between two appends. */
static const char *place_read(struct history *history, uint32_t reader, const struct kv__step *step)
{
    struct bytes seen = buffer_bytes(&step->list);
    struct bytes list = buffer_bytes(&history->lists[step->key]);
    if (!bytes_have_prefix(list, seen)) {
        return fail(history, "a read saw what is not the beginning of the list: operation, key",
                    reader, step->key);
    }
    uint32_t count = 0;
    for (size_t i = 0; i < seen.size_bytes; i++) {
        count += seen.data[i] == ',';
    }
    if (count > 0) {
        add_edge(history, history->writers[step->key][count - 1], reader);
    }
    if (count < history->writer_counts[step->key]) {
        add_edge(history, reader, history->writers[step->key][count]);
    }
    return NULL;
}

static const char *add_edges(struct history *history)
{
    for (uint32_t key = 0; key < history->key_count; key++) {
        for (uint32_t i = 1; i < history->writer_counts[key]; i++) {
            add_edge(history, history->writers[key][i - 1], history->writers[key][i]);
        }
    }
    for (uint32_t i = 0; i < history->operation_count; i++) {
        const struct kv__operation *operation = &history->operations[i];
        for (uint32_t j = 0; j < operation->step_count && operation->outcome == KV__DONE; j++) {
            const struct kv__step *step = &operation->steps[j];
            const char *failure = step->is_seen ? place_read(history, i, step) : NULL;
            if (failure != NULL) {
                return failure;
            }
        }
        for (uint32_t j = 0; j < history->operation_count; j++) {
            if (operation->outcome == KV__DONE &&
                operation->answered_at < history->operations[j].invoked_at) {
                add_edge(history, i, j);
            }
        }
    }
    return NULL;
}

/* Take away, again and again, what nothing has to stand before. What is left has a circle. */
static const char *find_circle(struct history *history)
{
    uint32_t count = history->operation_count;
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        left += history->has_effect[i];
    }
    bool has_changed = true;
    while (has_changed) {
        has_changed = false;
        for (uint32_t i = 0; i < count; i++) {
            bool is_free = history->has_effect[i] != 0;
            for (uint32_t j = 0; j < count && is_free; j++) {
                is_free = history->has_effect[j] == 0 || history->edges[(size_t)j * count + i] == 0;
            }
            if (is_free) {
                history->has_effect[i] = 0;
                left--;
                has_changed = true;
            }
        }
    }
    for (uint32_t i = 0; i < count && left > 0; i++) {
        if (history->has_effect[i] != 0) {
            return fail(history, "no order explains what clients saw: one of them, how many", i,
                        left);
        }
    }
    return NULL;
}

const char *kv__txn_check(const struct kv__operation *operations, uint32_t operation_count,
                          const struct buffer *lists, uint32_t key_count,
                          char text[KV__FAILURE_SIZE])
{
    ASSERT(key_count <= KV__KEY_COUNT_MAX && operation_count <= KV__OPERATION_COUNT_MAX);
    struct history history = {
        .operations = operations,
        .operation_count = operation_count,
        .lists = lists,
        .key_count = key_count,
        .edges = memory_allocate_zeroed((size_t)operation_count * operation_count + 1, 1),
        .has_effect = memory_allocate_zeroed(operation_count + 1, 1),
        .text = text,
    };
    const char *failure = read_lists(&history);
    failure = failure == NULL ? check_effects(&history) : failure;
    failure = failure == NULL ? add_edges(&history) : failure;
    failure = failure == NULL ? find_circle(&history) : failure;
    for (uint32_t key = 0; key < key_count; key++) {
        memory_free(history.writers[key]);
    }
    memory_free(history.edges);
    memory_free(history.has_effect);
    return failure;
}
