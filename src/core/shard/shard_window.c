/* SPDX-License-Identifier: Apache-2.0 */
/* Each gateway's answers stand in a queue of their own, in the order in which they were applied,
 * which is nearly that of their sequences; a hash table finds them by identity.
 *
 * Whatever has to go goes from the front of a queue: below the floor as soon as it gets there,
 * so that one which came too early holds up others for no longer than itself; for its age, or
 * for its size, the oldest of all queues, which a heap knows.
 *
 * Of what went because of a floor, or its age, is remembered below which sequence that was
 * (`forgotten`). With its gateway that goes, too, and the window then reaches back only to behind the
 * newest entry with anything of it (W1). */
#include "core/shard/shard_window.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/heap/heap.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_window_queue.h"
#include "core/shard/shard_window_table.h"

enum {
    ORIGIN_COUNT_MIN = 4,
    /* That go with one entry, besides twice as many as it has (W3), or with a floor. */
    TRIM_COUNT = 64,
    SHORT_REPLY_SIZE_BYTES_MAX = 1024,
    ENTRY_SIZE_BYTES_MIN = 1 << 20,
};

/* A life of a gateway. */
struct window_origin {
    uint64_t origin;
    uint64_t floor;          /* As it was told; 0: it was not. */
    uint64_t forgotten;      /* Answers below this may be gone. At least `floor`. */
    raft_index newest_index; /* The newest entry with anything of it. */
    struct window_queue answers;
    struct heap_item by_age; /* By the index of the oldest. */
    struct list sinking; /* In the window's, while the oldest is below `forgotten`; else alone. */
    struct list news;    /* In the window's, while the floor was not taken; else alone. */
};

struct shard_window {
    uint64_t size_bytes_max;
    uint64_t size_bytes;
    uint64_t answer_count;
    uint64_t forgotten_count;
    raft_index covered;
    raft_index index; /* Of the entry that is being applied; 0: none. */
    raft_index newest_index;
    raft_index age_index;      /* Newest entry when the time was last looked at. */
    raft_index old_index;      /* Up to this one they are old. */
    uint32_t added_count;      /* Of the entry, */
    uint64_t added_size_bytes; /* and what of their replies is kept. */
    struct window_table table;
    struct window_spares spares;
    struct window_origin **origins; /* By number. */
    uint32_t origin_count;
    uint32_t origin_capacity;
    struct window_origin *recent; /* That was looked up last; NULL. */
    struct heap by_age;
    struct list sinking;
    struct list news;
};

/* ---- Gateways -------------------------------------------------------------------------------- */

/* Where it is, or would be. */
static uint32_t place_of(const struct shard_window *window, uint64_t origin)
{
    uint32_t low = 0;
    uint32_t high = window->origin_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (window->origins[middle]->origin < origin) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct window_origin *find_origin(const struct shard_window *window, uint64_t origin)
{
    if (window->recent != NULL && window->recent->origin == origin) {
        return window->recent;
    }
    uint32_t place = place_of(window, origin);
    bool is_there = place < window->origin_count && window->origins[place]->origin == origin;
    return is_there ? window->origins[place] : NULL;
}

static void remove_origin(struct shard_window *window, uint32_t place)
{
    struct window_origin *origin = window->origins[place];
    ASSERT(shard__window_queue_is_empty(&origin->answers));
    list_remove(&origin->sinking);
    list_remove(&origin->news);
    window->origin_count--;
    memmove(&window->origins[place], &window->origins[place + 1],
            (window->origin_count - place) * sizeof(struct window_origin *));
    window->recent = NULL;
    memory_free(origin);
}

/* The oldest answer goes; there is one. */
static void pop(struct shard_window *window, struct window_origin *origin)
{
    const struct window_answer *answer = shard__window_queue_first(&origin->answers);
    struct window_slot *slot =
        shard__window_table_find(&window->table, origin->origin, answer->sequence);
    if (slot != NULL && slot->answer == answer) {
        shard__window_table_remove(&window->table, slot);
    }
    if (answer->sequence < origin->forgotten) {
        window->forgotten_count++;
    }
    window->size_bytes -=
        SHARD_WINDOW_ITEM_SLOTS_SIZE_BYTES + shard__window_answer_size_bytes(answer);
    window->answer_count--;
    shard__window_queue_pop(&origin->answers, &window->spares);
}

/* The front of the queue is another one. */
static void sort_in(struct shard_window *window, struct window_origin *origin)
{
    if (shard__window_queue_is_empty(&origin->answers)) {
        heap_remove(&window->by_age, &origin->by_age);
        list_remove(&origin->sinking);
        return;
    }
    const struct window_answer *first = shard__window_queue_first(&origin->answers);
    if (origin->by_age.place == 0 || origin->by_age.key != first->index) {
        heap_set(&window->by_age, &origin->by_age, first->index);
    }
    bool is_sinking = first->sequence < origin->forgotten;
    if (is_sinking && list_is_empty(&origin->sinking)) {
        list_push_back(&window->sinking, &origin->sinking);
    } else if (!is_sinking) {
        list_remove(&origin->sinking);
    }
}

/* There are too many gateways: the one that wrote longest ago is not known any more, nor is
 * whatever was applied up to then. */
static void remove_oldest_origin(struct shard_window *window)
{
    PROBE("shard.window_origin_dropped");
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < window->origin_count; i++) {
        if (window->origins[i]->newest_index < window->origins[oldest]->newest_index) {
            oldest = i;
        }
    }
    struct window_origin *origin = window->origins[oldest];
    if (window->covered < origin->newest_index) {
        window->covered = origin->newest_index;
    }
    while (!shard__window_queue_is_empty(&origin->answers)) {
        pop(window, origin);
    }
    sort_in(window, origin);
    remove_origin(window, oldest);
}

static struct window_origin *origin_of(struct shard_window *window, uint64_t number)
{
    ASSERT(number != 0);
    struct window_origin *origin = find_origin(window, number);
    if (origin == NULL) {
        if (window->origin_count == SHARD_WINDOW_ORIGIN_COUNT_MAX) {
            remove_oldest_origin(window);
        }
        if (window->origin_count == window->origin_capacity) {
            window->origin_capacity =
                window->origin_capacity == 0 ? ORIGIN_COUNT_MIN : 2 * window->origin_capacity;
            window->origins =
                memory_resize(window->origins, window->origin_capacity * sizeof origin);
        }
        origin = memory_allocate_zeroed(1, sizeof *origin);
        origin->origin = number;
        shard__window_queue_init(&origin->answers);
        list_init(&origin->sinking);
        list_init(&origin->news);
        uint32_t place = place_of(window, number);
        memmove(&window->origins[place + 1], &window->origins[place],
                (window->origin_count - place) * sizeof(struct window_origin *));
        window->origins[place] = origin;
        window->origin_count++;
    }
    window->recent = origin;
    return origin;
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct shard_window *shard__window_create(uint64_t size_bytes_max)
{
    struct shard_window *window = memory_allocate_zeroed(1, sizeof *window);
    window->size_bytes_max = size_bytes_max;
    list_init(&window->sinking);
    list_init(&window->news);
    shard__window_spares_init(&window->spares);
    shard__window_table_init(&window->table);
    return window;
}

void shard__window_destroy(struct shard_window *window)
{
    if (window == NULL) {
        return;
    }
    shard__window_reset(window, 0);
    shard__window_table_deinit(&window->table);
    heap_deinit(&window->by_age);
    memory_free(window);
}

void shard__window_reset(struct shard_window *window, raft_index covered)
{
    shard__window_table_deinit(&window->table);
    shard__window_table_init(&window->table);
    while (window->origin_count > 0) {
        struct window_origin *origin = window->origins[window->origin_count - 1];
        while (!shard__window_queue_is_empty(&origin->answers)) {
            shard__window_queue_pop(&origin->answers, &window->spares);
        }
        sort_in(window, origin);
        remove_origin(window, window->origin_count - 1);
    }
    shard__window_spares_free(&window->spares);
    memory_free(window->origins);
    window->origins = NULL;
    window->origin_capacity = 0;
    window->size_bytes = 0;
    window->answer_count = 0;
    window->covered = covered;
    window->index = 0;
    window->newest_index = covered;
    window->age_index = covered;
    window->old_index = covered;
}

raft_index shard__window_covered(const struct shard_window *window)
{
    return window->covered;
}

struct shard_window_figures shard__window_figures(const struct shard_window *window)
{
    return (struct shard_window_figures){.answer_count = window->answer_count,
                                         .forgotten_count = window->forgotten_count,
                                         .size_bytes = window->size_bytes,
                                         .origin_count = window->origin_count};
}

/* ---- What goes ------------------------------------------------------------------------------- */

static struct window_origin *oldest_of(const struct shard_window *window)
{
    struct heap_item *first = heap_first(&window->by_age);
    return first != NULL ? CONTAINER_OF(first, struct window_origin, by_age) : NULL;
}

/* All but the newest entry's may go. */
static bool is_too_large(const struct shard_window *window, const struct window_origin *oldest)
{
    return window->size_bytes > window->size_bytes_max && oldest != NULL &&
           oldest->by_age.key < window->newest_index;
}

static bool is_old(const struct shard_window *window, const struct window_origin *oldest)
{
    return oldest != NULL && oldest->by_age.key <= window->old_index;
}

/* Up to so many of what is below the origin's floor. Returns how many are left to do. */
static uint32_t sink(struct shard_window *window, struct window_origin *origin, uint32_t count)
{
    while (count > 0 && !shard__window_queue_is_empty(&origin->answers) &&
           shard__window_queue_first(&origin->answers)->sequence < origin->forgotten) {
        pop(window, origin);
        count--;
    }
    sort_in(window, origin);
    return count;
}

static void drop_oldest(struct shard_window *window, struct window_origin *oldest)
{
    const struct window_answer *answer = shard__window_queue_first(&oldest->answers);
    if (is_old(window, oldest)) {
        /* It is nobody else's business: the window reaches back as far as before. */
        if (oldest->forgotten <= answer->sequence) {
            oldest->forgotten = answer->sequence + 1;
        }
    } else {
        PROBE("shard.window_shortened");
        window->covered = answer->index > window->covered ? answer->index : window->covered;
    }
    pop(window, oldest);
    sort_in(window, oldest);
}

bool shard__window_trim(struct shard_window *window, uint32_t count)
{
    while (count > 0 && !list_is_empty(&window->sinking)) {
        count = sink(window, LIST_ITEM(window->sinking.next, struct window_origin, sinking), count);
    }
    struct window_origin *oldest = oldest_of(window);
    while (count > 0 && (is_old(window, oldest) || is_too_large(window, oldest))) {
        drop_oldest(window, oldest);
        oldest = oldest_of(window);
        count--;
    }
    return !list_is_empty(&window->sinking) || is_old(window, oldest) ||
           is_too_large(window, oldest);
}

void shard__window_set_size(struct shard_window *window, uint64_t size_bytes_max)
{
    window->size_bytes_max = size_bytes_max;
}

bool shard__window_age(struct shard_window *window)
{
    bool is_idle = window->age_index == window->newest_index && window->answer_count == 0;
    window->old_index = window->age_index;
    window->age_index = window->newest_index;
    if (is_idle) {
        shard__window_spares_free(&window->spares);
    }
    return is_idle && shard__window_table_rest(&window->table);
}

void shard__window_set_floor(struct shard_window *window, const struct shard_floor *floor)
{
    struct window_origin *origin = origin_of(window, floor->origin);
    if (floor->floor <= origin->floor) {
        return;
    }
    origin->floor = floor->floor;
    if (list_is_empty(&origin->news)) {
        list_push_back(&window->news, &origin->news);
    }
    if (origin->forgotten < floor->floor) {
        origin->forgotten = floor->floor;
        (void)sink(window, origin, TRIM_COUNT);
    }
}

void shard__window_forget_others(struct shard_window *window, const struct shard_floor *floor)
{
    for (uint32_t i = 0; i < window->origin_count; i++) {
        struct window_origin *origin = window->origins[i];
        while (origin->origin != floor->origin && !shard__window_queue_is_empty(&origin->answers) &&
               shard__window_queue_first(&origin->answers)->sequence < floor->floor) {
            pop(window, origin);
        }
        sort_in(window, origin);
    }
}

bool shard__window_has_news(const struct shard_window *window)
{
    return !list_is_empty(&window->news);
}

uint32_t shard__window_take_news(struct shard_window *window, struct shard_floor *floors,
                                 uint32_t count_max)
{
    uint32_t count = 0;
    for (struct list *member;
         count < count_max && (member = list_pop_front(&window->news)) != NULL;) {
        const struct window_origin *origin = LIST_ITEM(member, struct window_origin, news);
        floors[count++] = (struct shard_floor){origin->origin, origin->floor};
    }
    return count;
}

/* ---- What comes ------------------------------------------------------------------------------ */

void shard__window_add_pending(struct shard_window *window, uint64_t origin, uint64_t sequence)
{
    const struct window_slot *slot = shard__window_table_take(&window->table, origin, sequence);
    ASSERT(slot->answer == NULL);
}

void shard__window_forget_pending(struct shard_window *window, uint64_t origin, uint64_t sequence)
{
    struct window_slot *slot = shard__window_table_find(&window->table, origin, sequence);
    if (slot != NULL && slot->answer == NULL) {
        shard__window_table_remove(&window->table, slot);
    }
}

void shard__window_begin(struct shard_window *window, raft_index index)
{
    ASSERT(index > window->newest_index && window->index == 0);
    window->index = index;
    window->added_count = 0;
    window->added_size_bytes = 0;
}

/* W2: an entry of a few kilobytes may have gigabytes of replies. */
static bool is_to_be_kept(const struct shard_window *window, struct bytes reply)
{
    uint64_t most = window->size_bytes_max < ENTRY_SIZE_BYTES_MIN ? ENTRY_SIZE_BYTES_MIN
                                                                  : window->size_bytes_max;
    return reply.size_bytes <= SHORT_REPLY_SIZE_BYTES_MAX ||
           window->added_size_bytes + reply.size_bytes <= most;
}

static const struct window_answer *keep(struct shard_window *window, struct window_origin *origin,
                                        uint64_t sequence, struct bytes reply)
{
    if (!is_to_be_kept(window, reply)) {
        PROBE("shard.window_reply_too_long");
        return shard__window_queue_push_lost(&origin->answers, &window->spares, sequence,
                                             window->index);
    }
    window->added_size_bytes += reply.size_bytes;
    return shard__window_queue_push(&origin->answers, &window->spares, sequence, window->index,
                                    reply);
}

void shard__window_add(struct shard_window *window, uint64_t number, uint64_t sequence,
                       struct bytes reply)
{
    struct window_origin *origin = origin_of(window, number);
    origin->newest_index = window->index;
    window->newest_index = window->index;
    window->added_count++;
    if (sequence < origin->forgotten) {
        window->forgotten_count++; /* Nobody waits for it. */
        shard__window_forget_pending(window, number, sequence);
        return;
    }
    const struct window_answer *answer = keep(window, origin, sequence, reply);
    struct window_slot *slot = shard__window_table_take(&window->table, number, sequence);
    ASSERT(slot->answer == NULL); /* I7: a write is applied once. */
    slot->answer = answer;
    window->answer_count++;
    window->size_bytes +=
        SHARD_WINDOW_ITEM_SLOTS_SIZE_BYTES + shard__window_answer_size_bytes(answer);
    if (origin->by_age.place == 0) {
        sort_in(window, origin);
    }
}

void shard__window_end(struct shard_window *window)
{
    ASSERT(window->index != 0);
    window->index = 0;
    (void)shard__window_trim(window, 2 * window->added_count + TRIM_COUNT);
}

enum shard_window_answer shard__window_find(const struct shard_window *window, uint64_t number,
                                            uint64_t sequence, struct bytes *reply)
{
    const struct window_slot *slot = shard__window_table_find(&window->table, number, sequence);
    if (slot != NULL && slot->answer == NULL) {
        return SHARD_WINDOW_PENDING;
    }
    if (slot != NULL && slot->answer->is_lost) {
        return SHARD_WINDOW_FORGOTTEN;
    }
    if (slot != NULL) {
        *reply = bytes_make(slot->answer->reply, slot->answer->reply_size_bytes);
        return SHARD_WINDOW_ANSWERED;
    }
    const struct window_origin *origin = find_origin(window, number);
    return origin != NULL && sequence < origin->forgotten ? SHARD_WINDOW_FORGOTTEN
                                                          : SHARD_WINDOW_UNKNOWN;
}
