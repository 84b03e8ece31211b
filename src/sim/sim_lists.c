/* SPDX-License-Identifier: Apache-2.0 */
/* Is there one order of all operations on lists that explains what every client saw, and in which an
 * operation that was answered stands before those that were begun later?
 *
 * Elements are unique and lists only grow, so the lists at the end say in which order the appends
 * were. What a read saw must be the beginning of its list, and says between which two appends it
 * stands. All of that are edges of a graph: who must stand before whom. There is an order if and
 * only if the graph has no circle (Adya's dependencies; as Elle does for list-append).
 *
 * Real time would be an edge for each pair. It is a chain of moments instead, one for each answer:
 * an operation stands before the moment of its answer, and behind the last moment before it began. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_internal.h"

struct edge {
    uint32_t from;
    uint32_t to;
};

struct element {
    uint32_t owner; /* The operation, counted from 1; 0: it was refused, or nobody's. */
    uint32_t list;
    bool is_there;
};

struct history {
    const struct sim__list_operation *operations;
    uint32_t operation_count;
    const struct bytes *lists; /* At the end. */
    uint32_t list_count;
    struct element *elements; /* By number. */
    uint32_t element_count;
    uint32_t **orders; /* The elements of each list, in order. */
    uint32_t *order_counts;
    bool *have_effect;
    struct edge *edges;
    size_t edge_count;
    size_t edge_capacity;
    uint32_t node_count; /* Operations and moments. */
    char *text;
};

static const char *fail(struct history *history, const char *what, uint64_t a, uint64_t b)
{
    (void)snprintf(history->text, SIM_REASON_SIZE, "%s (%" PRIu64 ", %" PRIu64 ")", what, a, b);
    return history->text;
}

/* ---- What took effect ------------------------------------------------------------------------ */

static void note_elements(struct history *history)
{
    for (int is_second = 0; is_second < 2; is_second++) {
        for (uint32_t i = 0; i < history->operation_count; i++) {
            const struct sim__list_operation *operation = &history->operations[i];
            for (uint32_t k = 0; k < operation->step_count; k++) {
                const struct sim__list_step *step = &operation->steps[k];
                if (is_second != 0) {
                    history->elements[step->element] = (struct element){i + 1, step->list, false};
                } else if (step->element >= history->element_count) {
                    history->element_count = step->element + 1;
                }
            }
        }
        if (is_second == 0) {
            history->elements =
                memory_allocate_zeroed(history->element_count + 1u, sizeof history->elements[0]);
        }
    }
}

/* The next number, and the comma behind it. False: there is none. */
static bool take_element(struct bytes *rest, uint64_t *element)
{
    size_t size = 0;
    *element = 0;
    while (size < rest->size_bytes && rest->data[size] >= '0' && rest->data[size] <= '9') {
        *element = *element * 10 + (uint64_t)(rest->data[size++] - '0');
    }
    if (size == 0 || size >= rest->size_bytes || rest->data[size] != ',') {
        return false;
    }
    *rest = bytes_make(rest->data + size + 1, rest->size_bytes - size - 1);
    return true;
}

static const char *read_list(struct history *history, uint32_t list)
{
    struct bytes rest = history->lists[list];
    uint32_t *order = memory_allocate((rest.size_bytes / 2 + 1) * sizeof order[0]);
    history->orders[list] = order;
    while (rest.size_bytes > 0) {
        uint64_t number;
        if (!take_element(&rest, &number) || number == 0 || number >= history->element_count) {
            return fail(history, "a list has what nobody appended: list, element", list, number);
        }
        struct element *element = &history->elements[number];
        if (element->owner == 0 || element->list != list) {
            return fail(history, "a list has what was refused: list, element", list, number);
        }
        if (element->is_there) {
            return fail(history, "an append took effect twice: list, element", list, number);
        }
        element->is_there = true;
        order[history->order_counts[list]++] = (uint32_t)number;
    }
    return NULL;
}

/* All of it or nothing, as the client was told. */
static const char *check_effects(struct history *history)
{
    for (uint32_t i = 0; i < history->operation_count; i++) {
        const struct sim__list_operation *operation = &history->operations[i];
        uint32_t there_count = 0;
        uint32_t missing = 0;
        for (uint32_t k = 0; k < operation->step_count; k++) {
            uint32_t element = operation->steps[k].element;
            there_count += history->elements[element].is_there;
            missing = element != 0 && !history->elements[element].is_there ? element : missing;
        }
        if (!operation->is_optional && missing != 0) {
            return fail(history, "an acknowledged append is lost: operation, element", i, missing);
        }
        if (there_count > 0 && missing != 0) {
            return fail(history, "half of a transaction took effect: operation, missing element", i,
                        missing);
        }
        history->have_effect[i] = !operation->is_optional || there_count > 0;
    }
    return NULL;
}

/* ---- Who must stand before whom -------------------------------------------------------------- */

static void add_edge(struct history *history, uint32_t from, uint32_t to)
{
    if (from == to) {
        return;
    }
    if (history->edge_count == history->edge_capacity) {
        history->edge_capacity = 2 * history->edge_capacity + 64;
        history->edges =
            memory_resize(history->edges, history->edge_capacity * sizeof history->edges[0]);
    }
    history->edges[history->edge_count++] = (struct edge){from, to};
}

static uint32_t writer_of(const struct history *history, uint32_t list, uint32_t position)
{
    return history->elements[history->orders[list][position]].owner - 1;
}

/* What an operation saw of a list places it between two appends; its own count. */
static const char *place_read(struct history *history, uint32_t reader, uint32_t step_index)
{
    const struct sim__list_operation *operation = &history->operations[reader];
    const struct sim__list_step *step = &operation->steps[step_index];
    bool is_whole = step->seen.size_bytes == 0 || step->seen.data[step->seen.size_bytes - 1] == ',';
    if (!is_whole || !bytes_have_prefix(history->lists[step->list], step->seen)) {
        return fail(history, "a read saw what is not the beginning of the list: operation, list",
                    reader, step->list);
    }
    uint32_t count = 0;
    uint32_t own_count = 0;
    for (size_t i = 0; i < step->seen.size_bytes; i++) {
        if (step->seen.data[i] == ',') {
            own_count += writer_of(history, step->list, count++) == reader;
        }
    }
    uint32_t own_before = 0;
    for (uint32_t k = 0; k < step_index; k++) {
        own_before += operation->steps[k].element != 0 && operation->steps[k].list == step->list;
    }
    if (own_count != own_before) {
        return fail(history, "a read does not see what its transaction did before it", reader,
                    step->list);
    }
    if (count > 0) {
        add_edge(history, writer_of(history, step->list, count - 1), reader);
    }
    if (count < history->order_counts[step->list]) {
        add_edge(history, reader, writer_of(history, step->list, count));
    }
    return NULL;
}

static const char *add_dependencies(struct history *history)
{
    for (uint32_t list = 0; list < history->list_count; list++) {
        for (uint32_t i = 1; i < history->order_counts[list]; i++) {
            add_edge(history, writer_of(history, list, i - 1), writer_of(history, list, i));
        }
    }
    for (uint32_t i = 0; i < history->operation_count; i++) {
        const struct sim__list_operation *operation = &history->operations[i];
        for (uint32_t k = 0; k < operation->step_count && history->have_effect[i]; k++) {
            const char *failure = operation->steps[k].is_seen ? place_read(history, i, k) : NULL;
            if (failure != NULL) {
                return failure;
            }
        }
    }
    return NULL;
}

static int compare_moments(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* How many moments are before this one. */
static uint32_t count_before(const uint64_t *moments, uint32_t count, uint64_t moment)
{
    uint32_t lower = 0;
    uint32_t upper = count;
    while (lower < upper) {
        uint32_t middle = (lower + upper) / 2;
        if (moments[middle] < moment) {
            lower = middle + 1;
        } else {
            upper = middle;
        }
    }
    return lower;
}

static void add_real_time(struct history *history)
{
    uint32_t count = 0;
    uint64_t *moments = memory_allocate((history->operation_count + 1u) * sizeof moments[0]);
    for (uint32_t i = 0; i < history->operation_count; i++) {
        if (!history->operations[i].is_optional) {
            moments[count++] = history->operations[i].ended_at;
        }
    }
    qsort(moments, count, sizeof moments[0], compare_moments);
    for (uint32_t i = 1; i < count; i++) {
        add_edge(history, history->operation_count + i - 1, history->operation_count + i);
    }
    for (uint32_t i = 0; i < history->operation_count; i++) {
        const struct sim__list_operation *operation = &history->operations[i];
        uint32_t before = count_before(moments, count, operation->started_at);
        if (before > 0) {
            add_edge(history, history->operation_count + before - 1, i);
        }
        if (!operation->is_optional) {
            uint32_t own = count_before(moments, count, operation->ended_at);
            add_edge(history, i, history->operation_count + own);
        }
    }
    history->node_count = history->operation_count + count;
    memory_free(moments);
}

struct session_place {
    uint64_t session;
    uint64_t started_at;
    uint32_t operation;
};

static int compare_places(const void *left, const void *right)
{
    const struct session_place *a = left;
    const struct session_place *b = right;
    int order = (a->session > b->session) - (a->session < b->session);
    order = order != 0 ? order : (a->started_at > b->started_at) - (a->started_at < b->started_at);
    return order != 0 ? order : (a->operation > b->operation) - (a->operation < b->operation);
}

static bool have_list_in_common(const struct sim__list_operation *a,
                                const struct sim__list_operation *b)
{
    for (uint32_t i = 0; i < a->step_count; i++) {
        for (uint32_t k = 0; k < b->step_count; k++) {
            if (a->steps[i].list == b->steps[k].list) {
                return true;
            }
        }
    }
    return false;
}

/* The one at `place` comes after those of its session that it has to, back to the newest that all of it
 * has to come after. */
static void add_place(struct history *history, const struct session_place *places, uint32_t place)
{
    const struct sim__list_operation *own = &history->operations[places[place].operation];
    for (uint32_t i = place; i > 0 && places[i - 1].session == places[place].session; i--) {
        const struct sim__list_operation *before = &history->operations[places[i - 1].operation];
        if (!own->is_of_pipeline || !before->is_of_pipeline || have_list_in_common(before, own)) {
            add_edge(history, places[i - 1].operation, places[place].operation);
        }
        if (!before->is_of_pipeline) {
            break;
        }
    }
}

static void add_sessions(struct history *history)
{
    uint32_t count = 0;
    struct session_place *places =
        memory_allocate((history->operation_count + 1u) * sizeof places[0]);
    for (uint32_t i = 0; i < history->operation_count; i++) {
        const struct sim__list_operation *operation = &history->operations[i];
        if (history->have_effect[i]) {
            places[count++] = (struct session_place){operation->session, operation->started_at, i};
        }
    }
    qsort(places, count, sizeof places[0], compare_places);
    for (uint32_t i = 1; i < count; i++) {
        add_place(history, places, i);
    }
    memory_free(places);
}

/* ---- Circles --------------------------------------------------------------------------------- */

/* Of what is left each has somebody left before it: go back until somebody comes again. */
static const char *tell_circle(struct history *history, const uint32_t *before_counts)
{
    uint32_t node = 0;
    while (before_counts[node] == 0) {
        node++;
    }
    uint32_t start = UINT32_MAX;
    bool *was_seen = memory_allocate_zeroed(history->node_count, 1);
    size_t length = (size_t)snprintf(history->text, SIM_REASON_SIZE,
                                     "no order explains what clients saw of lists:");
    while (node != start && length < SIM_REASON_SIZE) {
        if (was_seen[node] && start == UINT32_MAX) {
            start = node;
        }
        was_seen[node] = true;
        if (start != UINT32_MAX && node < history->operation_count) {
            length += (size_t)snprintf(history->text + length, SIM_REASON_SIZE - length,
                                       " %" PRIu64 " after", history->operations[node].started_at);
        }
        size_t i = 0;
        while (history->edges[i].to != node || before_counts[history->edges[i].from] == 0) {
            i++;
        }
        node = history->edges[i].from;
    }
    memory_free(was_seen);
    return history->text;
}

static int compare_edges(const void *left, const void *right)
{
    const struct edge *a = left;
    const struct edge *b = right;
    int order = (a->from > b->from) - (a->from < b->from);
    return order != 0 ? order : (a->to > b->to) - (a->to < b->to);
}

/* Take away, again and again, what nothing has to stand before. What is left has a circle. */
static const char *find_circle(struct history *history)
{
    uint32_t count = history->node_count;
    uint32_t *before_counts = memory_allocate_zeroed(count + 1u, sizeof before_counts[0]);
    size_t *starts = memory_allocate_zeroed(count + 2u, sizeof starts[0]);
    uint32_t *free_nodes = memory_allocate((count + 1u) * sizeof free_nodes[0]);
    if (history->edge_count > 0) {
        qsort(history->edges, history->edge_count, sizeof history->edges[0], compare_edges);
    }
    for (size_t i = 0; i < history->edge_count; i++) {
        before_counts[history->edges[i].to]++;
        starts[history->edges[i].from + 1] = i + 1;
    }
    for (uint32_t i = 0; i <= count; i++) {
        starts[i + 1] = starts[i + 1] < starts[i] ? starts[i] : starts[i + 1];
    }
    uint32_t free_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (before_counts[i] == 0) {
            free_nodes[free_count++] = i;
        }
    }
    for (uint32_t at = 0; at < free_count; at++) {
        uint32_t node = free_nodes[at];
        for (size_t i = starts[node]; i < starts[node + 1]; i++) {
            if (--before_counts[history->edges[i].to] == 0) {
                free_nodes[free_count++] = history->edges[i].to;
            }
        }
    }
    const char *failure = free_count < count ? tell_circle(history, before_counts) : NULL;
    memory_free(before_counts);
    memory_free(starts);
    memory_free(free_nodes);
    return failure;
}

const char *sim__lists_check(const struct sim__list_operation *operations, uint32_t count,
                             const struct bytes *lists, uint32_t list_count,
                             char text[SIM_REASON_SIZE])
{
    struct history history = {
        .operations = operations,
        .operation_count = count,
        .lists = lists,
        .list_count = list_count,
        .orders = memory_allocate_zeroed(list_count + 1u, sizeof history.orders[0]),
        .order_counts = memory_allocate_zeroed(list_count + 1u, sizeof history.order_counts[0]),
        .have_effect = memory_allocate_zeroed(count + 1u, sizeof history.have_effect[0]),
        .text = text,
    };
    note_elements(&history);
    history.elements[0] = (struct element){0};
    const char *failure = NULL;
    for (uint32_t list = 0; list < list_count && failure == NULL; list++) {
        failure = read_list(&history, list);
    }
    failure = failure == NULL ? check_effects(&history) : failure;
    failure = failure == NULL ? add_dependencies(&history) : failure;
    if (failure == NULL) {
        add_real_time(&history);
        add_sessions(&history);
        failure = find_circle(&history);
    }
    for (uint32_t list = 0; list < list_count; list++) {
        memory_free(history.orders[list]);
    }
    memory_free(history.orders);
    memory_free(history.order_counts);
    memory_free(history.have_effect);
    memory_free(history.elements);
    memory_free(history.edges);
    return failure;
}
