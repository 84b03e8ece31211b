/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request: at once, into the open entry, or by way of the disk pool.
 *
 *   read, nothing of its session pending   answered at once if it is in memory, else elsewhere
 *   read behind writes of its session      into the open entry, so that it sees them (I4)
 *   write                                  into the open entry, once its rows are in memory
 *
 * While a request of a session is on its way to memory, the session's later ones wait (I4). */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

void shard_session_init(struct shard_session *session)
{
    list_init(&session->waiting);
    session->pending_count = 0;
    session->is_alone = false;
}

/* The arguments of a request outlive its submission. */
void shard__copy_command(struct shard_request *request)
{
    if (request->copy != NULL) {
        return;
    }
    uint32_t count = request->command.argument_count;
    size_t size = sizeof(struct bytes) * (count + 1u);
    for (uint32_t i = 0; i < count; i++) {
        size += request->command.arguments[i].size_bytes;
    }
    struct bytes *arguments = memory_allocate(size);
    uint8_t *place = (uint8_t *)(arguments + count);
    for (uint32_t i = 0; i < count; i++) {
        struct bytes argument = request->command.arguments[i];
        arguments[i] = bytes_make(place, argument.size_bytes);
        if (argument.size_bytes > 0) {
            memcpy(place, argument.data, argument.size_bytes);
            place += argument.size_bytes;
        }
    }
    request->copy = arguments;
    request->command.arguments = arguments;
}

static void free_copy(struct shard_request *request)
{
    memory_free(request->copy);
    request->copy = NULL;
}

static void add_item(struct shard_entry *entry, struct shard_request *request, bool is_write)
{
    if (entry->item_count == entry->item_capacity) {
        entry->item_capacity = entry->item_capacity == 0 ? 64 : entry->item_capacity * 2;
        entry->items = memory_resize(entry->items, entry->item_capacity * sizeof entry->items[0]);
    }
    entry->items[entry->item_count++] = (struct shard_item){request, is_write, 0};
}

void shard__add_command(struct shard *shard, struct shard_request *request,
                        const struct shard_command *command)
{
    struct shard_entry *entry = shard->open;
    if (entry->command_count > 0 && entry->payload.size_bytes + shard__command_size_bytes(command) >
                                        SHARD_ENTRY_SIZE_BYTES_SOFT_MAX) {
        shard__propose_open(shard);
        entry = shard->open;
    }
    size_t before = entry->payload.size_bytes;
    shard__entry_add(&entry->payload, command);
    entry->command_count++;
    add_item(entry, request, true);
    shard->in_flight_size_bytes += entry->payload.size_bytes - before;
    if (entry->command_count == SHARD_ENTRY_COMMAND_COUNT_MAX) {
        shard__propose_open(shard);
    }
}

void shard__add_write(struct shard *shard, struct shard_request *request)
{
    request->session->pending_count++;
    shard__add_command(shard, request, &request->command);
    free_copy(request); /* The entry has the arguments. */
}

/* Is all that the command will read in memory? */
static bool is_in_memory(struct shard *shard, const struct shard_command *command)
{
    struct shard_machine *machine = &shard->options.machine;
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    return machine->prefetch(machine->context, shard->rows, command) == 0;
}

/* A read behind writes of its session joins the entry that holds the newest of them, or a later
 * one. */
static struct shard_entry *entry_for_read(struct shard *shard)
{
    if (shard->open->item_count > 0) {
        return shard->open;
    }
    if (!list_is_empty(&shard->in_flight)) {
        return LIST_ITEM(shard->in_flight.previous, struct shard_entry, link);
    }
    return NULL; /* Only the stalled entry is left, and it is executed already. */
}

static bool may_be_ordered(struct shard *shard, const struct shard_request *request)
{
    return entry_for_read(shard) != NULL && is_in_memory(shard, &request->command);
}

static void add_ordered_read(struct shard *shard, struct shard_request *request)
{
    shard__copy_command(request);
    request->session->pending_count++;
    add_item(entry_for_read(shard), request, false);
}

static void wait_in_session(struct shard_request *request, bool is_first)
{
    shard__copy_command(request);
    if (is_first) {
        list_push_front(&request->session->waiting, &request->link);
    } else {
        list_push_back(&request->session->waiting, &request->link);
    }
}

static int start(struct shard *shard, struct shard_request *request, const struct reply *reply);

/* Start what waits in the session, as far as it may. Answers go through done(). */
void shard__resume_session(struct shard *shard, struct shard_session *session)
{
    while (!session->is_alone && !list_is_empty(&session->waiting)) {
        struct shard_request *request =
            LIST_ITEM(session->waiting.next, struct shard_request, link);
        if (session->pending_count > 0 && !request->is_write && !may_be_ordered(shard, request)) {
            return; /* A read that needs the disk waits for the writes before it. */
        }
        list_remove(&request->link);
        struct buffer answer = {0};
        struct reply reply = {&answer, request->protocol};
        if (start(shard, request, &reply) == SHARD_ANSWERED) {
            session->pending_count++;
            shard__answer(shard, request, buffer_bytes(&answer));
            buffer_deinit(&answer);
            return; /* Answering resumed the session already. */
        }
        buffer_deinit(&answer);
    }
}

void shard__answer(struct shard *shard, struct shard_request *request, struct bytes reply)
{
    struct shard_session *session = request->session;
    ASSERT(session->pending_count > 0);
    session->pending_count--;
    free_copy(request);
    shard->statistics.pending_request_count--;
    bool has_waiting = !list_is_empty(&session->waiting);
    /* The session may end in done(), but not while requests of it wait. */
    request->done(request, reply); /* I6 */
    if (has_waiting) {
        shard__resume_session(shard, session);
    }
}

static int start_write(struct shard *shard, struct shard_request *request)
{
    if (is_in_memory(shard, &request->command)) {
        shard__add_write(shard, request);
    } else {
        PROBE("shard.write_prefetched");
        shard__go_elsewhere(shard, request);
    }
    return SHARD_PENDING;
}

static int start_read(struct shard *shard, struct shard_request *request, const struct reply *reply)
{
    if (request->session->pending_count > 0 && !BUG("shard.session_order_broken")) {
        if (may_be_ordered(shard, request)) {
            add_ordered_read(shard, request);
        } else {
            wait_in_session(request, true);
        }
        return SHARD_PENDING;
    }
    struct shard_machine *machine = &shard->options.machine;
    /* What expired by the newest applied stamp is gone. */
    struct shard_moment moment = {.time_ms = shard__time_ms(shard),
                                  .durable_time_ms = shard->applied_stamp_ms};
    size_t before = reply->target->size_bytes;
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    int status = machine->read(machine->context, shard->rows, &moment, &request->command, reply);
    if (status == 0) {
        return SHARD_ANSWERED;
    }
    reply->target->size_bytes = before;
    if (status == ERROR_EXPIRED_SEEN) {
        PROBE("shard.read_through_log");
        shard__add_write(shard, request); /* I5 */
    } else {
        /* Incomplete, or a disk that fails: the worker finds out. */
        shard__go_elsewhere(shard, request);
    }
    return SHARD_PENDING;
}

static int start(struct shard *shard, struct shard_request *request, const struct reply *reply)
{
    return request->is_write ? start_write(shard, request) : start_read(shard, request, reply);
}

int shard_submit(struct shard *shard, struct shard_request *request, const struct reply *reply)
{
    if (!shard_is_ready(shard) && !BUG("shard.read_before_ready")) {
        return ERROR_NOT_LEADER;
    }
    request->copy = NULL;
    request->needed_index = shard->applied_index;
    struct shard_session *session = request->session;
    bool must_wait = session->is_alone || !list_is_empty(&session->waiting);
    if (request->is_write) {
        uint64_t size = shard__command_size_bytes(&request->command);
        if (size > WAL_ENTRY_SIZE_BYTES_MAX / 2) {
            return -E2BIG;
        }
        if (request->does_grow && shard->is_full) {
            return -ENOSPC;
        }
        if (shard->in_flight_size_bytes > 0 &&
            shard->in_flight_size_bytes + size > shard->options.in_flight_size_bytes_max) {
            return -EBUSY;
        }
    }
    int submitted = SHARD_PENDING;
    if (must_wait) {
        wait_in_session(request, false);
    } else {
        submitted = start(shard, request, reply);
    }
    if (submitted == SHARD_PENDING) {
        shard->statistics.pending_request_count++;
    }
    return submitted;
}
