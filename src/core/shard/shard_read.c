/* SPDX-License-Identifier: Apache-2.0 */
/* Reads by a worker, and prefetches for writes.
 *
 * A worker reads a snapshot of the store, so a read waits until the store has what it must see (I5):
 * the entries that were applied when it was submitted, or when the last of its session before it was
 * answered. If they are not on their way, they are handed over now. A prefetch only warms the
 * store's cache and waits for nothing. The snapshot may be older than what is applied, so what it
 * may tell of expired keys goes by the stamp of what the store has.
 *
 * What is gathered during a tick goes together, a part for each free worker, and each part has one
 * snapshot: handing over costs more than a read of a block that the kernel has. While all workers
 * are busy the next parts grow, so that their number follows the speed of the disk and not the
 * load.
 *
 * A session has its first read here, and along with it go the reads that wait behind it, up to the
 * first write: they are read in their order, from one snapshot, and answered in their order (I4). A
 * worker may find that one of them must go through the log, because a key has expired (I5). What
 * the session read behind it is then dropped and read again, behind that entry: it would have been
 * read from an older state than its predecessor. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

/* A worker that has read so much leaves the rest of its part for later. */
#define SHARD_READ_SIZE_BYTES_SOFT_MAX (4u << 20)

/* ---- On the shard's thread: gather, and hand over -------------------------------------------- */

void shard__go_elsewhere(struct shard *shard, struct shard_request *request)
{
    ASSERT(!request->session->is_alone);
    shard__copy_command(request);
    request->session->pending_count++;
    /* Also for a read: it may have to go through the log, and must not meet there what its session
     * did later (I4). */
    request->session->is_alone = true;
    request->needed_index = shard->applied_index;
    list_push_back(request->is_write ? &shard->cold_writes : &shard->cold_reads, &request->link);
    shard->cold_count++;
    if (!request->is_write) {
        shard->hurried_batch_count = SHARD_STORE_HURRIED_BATCH_COUNT;
    }
}

/* The requests in order of submission, whose order is that of what they need. */
static struct shard_request *first_of(const struct list *requests)
{
    return list_is_empty(requests) ? NULL : LIST_ITEM(requests->next, struct shard_request, link);
}

static bool does_store_suffice(const struct shard *shard, const struct shard_request *read)
{
    return read->needed_index <= shard->stored_index || BUG("shard.read_before_stored");
}

static void add_item(struct shard_read *read, struct shard_request *request)
{
    read->items[read->item_count++] =
        (struct shard_read_item){.request = request, .status = ERROR_INCOMPLETE};
}

/* A request, with the reads that wait behind it. It was confirmed that this is the leader when that one was begun;
 * for those, which came later, there has to be a lease now. Who names nothing may ask for what is not in rows. */
static void take(struct shard *shard, struct shard_request *first, struct shard_read *read)
{
    list_remove(&first->link);
    shard->cold_count--;
    add_item(read, first);
    struct shard_session *session = first->session;
    ASSERT(session->is_alone);
    while (!first->is_write && !list_is_empty(&session->waiting) &&
           read->item_count < SHARD_READ_ITEM_COUNT_MAX) {
        struct shard_request *next = first_of(&session->waiting);
        bool is_confirmed = next->may_be_stale || shard__has_lease(shard);
        if (next->is_write || !is_confirmed || !does_store_suffice(shard, next) ||
            next->command.argument_count == 0) {
            return;
        }
        list_remove(&next->link);
        session->pending_count++;
        add_item(read, next);
    }
}

/* What waited is where it was; nobody has seen that it was gone. */
static void put_back(struct shard *shard, struct shard_read *read)
{
    struct shard_session *session = NULL;
    for (uint32_t i = read->item_count; i-- > 0;) {
        struct shard_request *request = read->items[i].request;
        session = request->session;
        if (i > 0 && read->items[i - 1].request->session == session) {
            session->pending_count--;
            list_push_front(&session->waiting, &request->link);
        } else {
            list_push_front(request->is_write ? &shard->cold_writes : &shard->cold_reads,
                            &request->link);
            shard->cold_count++;
        }
    }
}

/* Take so many requests, reads and prefetches in turn. */
static void gather(struct shard *shard, uint32_t count, struct shard_read *read)
{
    for (uint32_t i = 0; i < count && read->item_count < SHARD_READ_ITEM_COUNT_MAX; i++) {
        struct shard_request *cold_read = first_of(&shard->cold_reads);
        struct shard_request *cold_write = first_of(&shard->cold_writes);
        if (cold_read != NULL && !does_store_suffice(shard, cold_read)) {
            cold_read = NULL;
        }
        if (cold_read == NULL && cold_write == NULL) {
            return;
        }
        bool is_read = cold_write == NULL || (cold_read != NULL && i % 2 == 0);
        take(shard, is_read ? cold_read : cold_write, read);
    }
}

/* False: nothing may go, or the pool is full. */
static bool start_read(struct shard *shard, uint32_t count)
{
    struct shard_read *read = memory_allocate(sizeof *read);
    struct env_store *store = &shard->options.store;
    read->shard = shard;
    read->item_count = 0;
    read->replies = (struct buffer){0};
    gather(shard, count, read);
    uint32_t item_count = read->item_count; /* The worker owns it after the hand-over. */
    if (item_count == 0) {
        memory_free(read);
        return false;
    }
    read->reign = shard->reign;
    read->snapshot = store->ops->snapshot_create(store->context);
    read->moment = (struct shard_moment){.time_ms = shard_is_ready(shard) ? shard__time_ms(shard)
                                                                          : shard->stored_stamp_ms,
                                         .durable_time_ms = shard->stored_stamp_ms};
    struct shard_host *host = &shard->options.host;
    if (host->read_elsewhere(host->context, read) != 0) {
        put_back(shard, read);
        store->ops->snapshot_release(store->context, read->snapshot);
        memory_free(read);
        return false;
    }
    shard->reads_elsewhere++;
    shard->statistics.read_elsewhere_count += item_count;
    return true;
}

void shard__start_reads(struct shard *shard)
{
    const struct shard_request *cold_read = first_of(&shard->cold_reads);
    if (cold_read != NULL && cold_read->needed_index > shard->handed_index) {
        (void)shard__hand_over(shard); /* Or when the batch under way is done. */
    }
    while (shard->cold_count > 0 && shard->reads_elsewhere < SHARD_READS_ELSEWHERE_MAX) {
        uint32_t free_count = SHARD_READS_ELSEWHERE_MAX - shard->reads_elsewhere;
        uint32_t part = (shard->cold_count + free_count - 1) / free_count;
        if (!start_read(shard, part)) {
            return;
        }
    }
}

/* ---- On a worker ----------------------------------------------------------------------------- */

static int run_item(struct shard_read *read, struct rows *rows, struct shard_read_item *item)
{
    const struct shard_machine *machine = &read->shard->options.machine;
    const struct shard_request *request = item->request;
    if (request->is_write) {
        return machine->prefetch(machine->context, rows, &request->command, &item->load_size_bytes);
    }
    struct reply reply = {.target = &read->replies, .protocol = request->protocol};
    struct shard_moment moment = read->moment;
    moment.may_be_stale = request->may_be_stale;
    size_t before = read->replies.size_bytes;
    int status = machine->read(machine->context, rows, &moment, &request->command, &reply);
    if (status != 0) {
        read->replies.size_bytes = before;
    }
    return status == ERROR_INCOMPLETE ? -EIO : status; /* A worker may block: nothing is missing. */
}

void shard_read_run(struct shard_read *read)
{
    struct rows *rows = rows_create_at(read->shard->options.store, read->snapshot);
    for (uint32_t i = 0; i < read->item_count; i++) {
        struct shard_read_item *item = &read->items[i];
        item->status = run_item(read, rows, item);
        item->reply_end = read->replies.size_bytes;
        if (read->replies.size_bytes > SHARD_READ_SIZE_BYTES_SOFT_MAX) {
            break;
        }
    }
    rows_destroy(rows);
}

/* ---- Back on the shard's thread: answer ------------------------------------------------------ */

/* The session's requests from `first` on wait again, before what came later. */
static void wait_again(struct shard_read *read, uint32_t first, uint32_t end)
{
    for (uint32_t i = end; i-- > first;) {
        struct shard_request *request = read->items[i].request;
        ASSERT(request->session->pending_count > 0);
        request->session->pending_count--;
        list_push_front(&request->session->waiting, &request->link);
    }
}

/* A write whose keys were locked while its rows were on their way may not want to wait. */
static bool answer_declining(struct shard *shard, struct shard_request *request)
{
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = request->protocol};
    bool does_decline = shard__declines(shard, request, &reply);
    if (does_decline) {
        shard__answer(shard, request, buffer_bytes(&answer)); /* The session may be gone. */
    }
    buffer_deinit(&answer);
    return does_decline;
}

/* Item `i` has no answer; `end` is where its session's items end. */
static void finish_unanswered(struct shard_read *read, uint32_t i, uint32_t end)
{
    struct shard *shard = read->shard;
    const struct shard_read_item *item = &read->items[i];
    struct shard_request *request = item->request;
    struct shard_session *session = request->session;
    session->is_alone = false;
    if (item->status == ERROR_INCOMPLETE) {
        PROBE("shard.read_not_reached");
        wait_again(read, i, end);
    } else if (item->status == 0 || item->status == ERROR_EXPIRED_SEEN ||
               item->status == ERROR_LOCKED) {
        ASSERT(request->is_write || item->status != 0);
        if (i + 1 < end) {
            PROBE("shard.read_again_behind_log");
        }
        wait_again(read, i + 1, end);
        if (request->is_write && answer_declining(shard, request)) {
            return;
        }
        session->pending_count--;
        request->load_size_bytes = number_max(request->load_size_bytes, item->load_size_bytes);
        if (item->status == ERROR_LOCKED || shard__must_wait_for_log(shard, request)) {
            shard__wait_for_lock(shard, request);
        } else {
            shard__add_write(shard, request); /* I5 */
        }
    } else {
        struct error error = {0};
        (void)error_set(&error, item->status, "shard %u: read from the store", shard->options.id);
        shard__fail(shard, item->status, &error);
        return;
    }
    shard__resume_session(shard, session);
}

/* Answer the items of one session, from `first` on; returns where they end. */
static uint32_t finish_session(struct shard_read *read, uint32_t first)
{
    struct shard_session *session = read->items[first].request->session;
    uint32_t end = first + 1;
    while (end < read->item_count && read->items[end].request->session == session) {
        end++;
    }
    for (uint32_t i = first; i < end; i++) {
        const struct shard_read_item *item = &read->items[i];
        if (item->status != 0 || item->request->is_write) {
            finish_unanswered(read, i, end);
            return end;
        }
        size_t start = i == 0 ? 0 : read->items[i - 1].reply_end;
        if (i + 1 == end) {
            session->is_alone = false; /* Before the answer, after which the session may be gone. */
        }
        shard__answer(read->shard, item->request,
                      bytes_make(read->replies.data + start, item->reply_end - start));
    }
    return end;
}

/* Leadership was lost meanwhile: what was read may be stale, what was prefetched has no log. */
static void hand_back_items(struct shard_read *read)
{
    for (uint32_t i = 0; i < read->item_count; i++) {
        struct shard_request *request = read->items[i].request;
        request->session->is_alone = false;
        shard__hand_back_untouched(read->shard, request);
    }
}

/* While SPLIT is in the log nothing is answered that a child could know better. */
static void hold_reads(struct shard_read *read)
{
    for (uint32_t i = 0; i < read->item_count && read->shard->is_splitting; i++) {
        struct shard_read_item *item = &read->items[i];
        bool is_held = !item->request->is_write && !item->request->may_be_stale;
        if (item->status == 0 && is_held && !BUG("shard.read_while_splitting")) {
            PROBE("shard.read_held_by_split");
            item->status = ERROR_LOCKED;
        }
    }
}

void shard_read_done(struct shard_read *read)
{
    struct shard *shard = read->shard;
    struct env_store *store = &shard->options.store;
    store->ops->snapshot_release(store->context, read->snapshot);
    ASSERT(shard->reads_elsewhere > 0);
    shard->reads_elsewhere--;
    if (read->reign != shard->reign) {
        PROBE("shard.read_of_an_earlier_reign");
        hand_back_items(read);
    } else {
        hold_reads(read);
        for (uint32_t i = 0; i < read->item_count;) {
            i = finish_session(read, i);
        }
    }
    buffer_deinit(&read->replies);
    memory_free(read);
}
