/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request: at once, into the open entry, or by way of the disk pool.
 *
 *   read, nothing of its session pending   answered at once if it is in memory, else elsewhere
 *   read behind writes of its session      into the open entry, so that it sees them (I4)
 *   write                                  into the open entry, once its rows are in memory
 *
 * While a request of a session is on its way to memory, the session's later ones wait (I4). So they do
 * while it waits for a transaction that holds one of its keys. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum { ITEM_COUNT_MIN = 8 };

void shard_session_init(struct shard_session *session)
{
    list_init(&session->waiting);
    session->pending_count = 0;
    session->is_alone = false;
    list_init(&session->early);
    session->route.line = NULL;
    session->route.number = 0;
    session->route.local_count = 0;
    session->route.local_epoch = 0;
    list_init(&session->route.reads);
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

static void add_item(struct shard *shard, struct shard_entry *entry, struct shard_request *request,
                     bool is_write)
{
    struct shard_answers *answers = &entry->answers;
    if (answers->item_count == answers->item_capacity) {
        shard__entry_lend_answers(shard, entry);
    }
    if (answers->item_count == answers->item_capacity) {
        answers->item_capacity =
            answers->item_capacity == 0 ? ITEM_COUNT_MIN : answers->item_capacity * 2;
        answers->items =
            memory_resize(answers->items, answers->item_capacity * sizeof answers->items[0]);
    }
    answers->items[answers->item_count++] = (struct shard_item){request, is_write, 0};
}

/* Short commands may make large values, as APPEND does, and an entry goes to the store whole: what its
 * commands load is no more than a batch of the store has, or it is one command. So whoever executes it, also
 * in a replay, has memory for it, and what comes behind it waits where it waits for the store. */
static bool is_too_much_to_load(const struct shard *shard, uint64_t load_size_bytes)
{
    const struct shard_entry *entry = shard->open;
    return load_size_bytes > 0 && entry->command_count > 0 &&
           entry->load_size_bytes + load_size_bytes > shard->options.store_size_bytes;
}

static bool has_no_room(const struct shard_entry *entry, const struct shard_command *command)
{
    return entry->command_count >= SHARD_ENTRY_COMMAND_COUNT_MAX ||
           (entry->command_count > 0 &&
            entry->payload.size_bytes + shard__command_size_bytes(command) >
                SHARD_ENTRY_SIZE_BYTES_SOFT_MAX);
}

static void add_command(struct shard *shard, struct shard_request *request,
                        const struct shard_decoded *decoded, uint64_t load_size_bytes)
{
    struct shard_entry *entry = shard->open;
    if (has_no_room(entry, &decoded->command) || is_too_much_to_load(shard, load_size_bytes)) {
        shard__propose_open(shard);
        entry = shard->open;
    }
    entry->load_size_bytes += load_size_bytes;
    size_t before = entry->payload.size_bytes;
    shard__entry_add(&entry->payload, decoded);
    entry->has_identities = entry->has_identities || decoded->origin != 0;
    entry->command_count++;
    add_item(shard, entry, request, true);
    const struct shard_machine *machine = &shard->options.machine;
    if (machine->gathered != NULL) {
        machine->gathered(machine->context, &decoded->command);
    }
    shard->in_flight_size_bytes += entry->payload.size_bytes - before;
    if (entry->command_count == SHARD_ENTRY_COMMAND_COUNT_MAX) {
        shard__propose_open(shard);
    }
}

void shard__add_background(struct shard *shard, const struct shard_command *command)
{
    struct shard_decoded decoded = {.command = *command, .protocol = 2};
    add_command(shard, NULL, &decoded, 0);
    shard->is_splitting = shard->is_splitting || command->opcode == SHARD_OPCODE_SPLIT;
}

/* What would load too much is answered by the log that it is not executed. */
static void replace_large(struct shard *shard, struct shard_request *request)
{
    const struct shard_machine *machine = &shard->options.machine;
    if (machine->instead == NULL || !request->is_write) {
        return;
    }
    const struct shard_command *instead =
        machine->instead(machine->context, &request->command, request->load_size_bytes);
    if (instead != NULL) {
        PROBE("shard.write_replaced");
        request->command = *instead;
        request->load_size_bytes = 0;
    }
}

void shard__add_write(struct shard *shard, struct shard_request *request)
{
    replace_large(shard, request);
    if (shard->is_transferring && (has_no_room(shard->open, &request->command) ||
                                   is_too_much_to_load(shard, request->load_size_bytes))) {
        PROBE("shard.full_while_transferring");
        shard__wait_for_lock(shard, request); /* The entry cannot go, and must not grow for ever. */
        return;
    }
    struct shard_decoded decoded = {
        .command = request->command,
        .origin = request->is_write ? request->origin : 0,
        .sequence = request->sequence,
        .protocol = request->protocol,
    };
    request->session->pending_count++;
    add_command(shard, request, &decoded, request->load_size_bytes);
    free_copy(request); /* The entry has the arguments. */
}

/* Is all that the command will read in memory? Then it is known how much that is. */
static bool is_in_memory(struct shard *shard, struct shard_request *request)
{
    struct shard_machine *machine = &shard->options.machine;
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    request->load_size_bytes = 0;
    return machine->prefetch(machine->context, shard->rows, &request->command,
                             &request->load_size_bytes) == 0;
}

/* A read behind writes of its session joins the entry that holds the newest of them, or a later
 * one. That the entry is committed shows that this is the leader (I5) only if it is still to be sent; one that
 * is in the log already may have been committed by others, who have gone on from it. Then there has to be a
 * lease. */
static struct shard_entry *entry_for_read(struct shard *shard)
{
    if (shard->open->answers.item_count > 0) {
        return shard->open;
    }
    raft_index last = shard->log.first_index + shard->log.count - 1;
    bool is_in_log = last > shard->applied_index;
    return is_in_log && shard__has_lease(shard) ? shard__log_at(shard, last) : NULL;
}

/* Which entry the read may join; NULL: it has to wait for the writes before it. */
static struct shard_entry *entry_of_order(struct shard *shard, struct shard_request *request)
{
    struct shard_entry *entry = entry_for_read(shard);
    bool may_be =
        entry != NULL && is_in_memory(shard, request) && !shard__must_wait(shard, request);
    return may_be ? entry : NULL;
}

bool shard__must_wait(const struct shard *shard, const struct shard_request *request)
{
    bool is_free = request->may_be_stale && !request->is_write;
    return !is_free && shard__must_wait_for_log(shard, request);
}

bool shard__must_wait_for_log(const struct shard *shard, const struct shard_request *request)
{
    const struct shard_machine *machine = &shard->options.machine;
    if (request->may_be_stale && !request->is_write && BUG("shard.late_read_unheld")) {
        return false;
    }
    bool is_held = machine->must_wait != NULL &&
                   machine->must_wait(machine->context, &request->command) &&
                   !BUG("shard.lock_passed");
    return shard->is_splitting || is_held;
}

static void wait_behind(struct shard *shard, struct shard_request *request)
{
    const struct shard_machine *machine = &shard->options.machine;
    list_push_back(&shard->locked, &request->link);
    if (machine->waits != NULL) {
        machine->waits(machine->context, &request->command);
    }
}

void shard__wait_for_lock(struct shard *shard, struct shard_request *request)
{
    PROBE("shard.request_locked");
    ASSERT(!request->session->is_alone);
    shard__copy_command(request);
    request->session->pending_count++;
    request->session->is_alone = true;
    /* A worker has seen a lock that is gone now: nothing that is applied later may tell of that. */
    shard->may_resume_locked |= !shard__must_wait_for_log(shard, request);
    wait_behind(shard, request);
}

bool shard__declines(struct shard *shard, const struct shard_request *request,
                     const struct reply *reply)
{
    const struct shard_machine *machine = &shard->options.machine;
    /* A retry that this window does not know may have happened under another leader, if there may be one. */
    bool is_known = !request->is_retry || shard__has_lease(shard);
    if (machine->declines == NULL || !is_known || !shard__must_wait(shard, request) ||
        !machine->declines(machine->context, &request->command, reply)) {
        return false;
    }
    PROBE("shard.request_declines");
    if (request->origin != 0) {
        shard__window_forget_pending(shard->window, request->origin, request->sequence);
    }
    return true;
}

void shard__forget_waiting(struct shard *shard)
{
    const struct shard_machine *machine = &shard->options.machine;
    if (machine->waits != NULL) {
        machine->waits(machine->context, NULL);
    }
}

static void add_ordered_read(struct shard *shard, struct shard_entry *entry,
                             struct shard_request *request)
{
    shard__copy_command(request);
    request->session->pending_count++;
    add_item(shard, entry, request, false);
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

/* Whether a request may be taken now, or one that waited for others of its session may start. Who was never
 * given anything is not late: it knows nothing. */
static bool may_start(const struct shard *shard, const struct shard_request *request)
{
    bool has_state =
        !shard->is_stateless && (shard->applied_index > 0 || BUG("shard.empty_replica_answers"));
    return shard_is_ready(shard) || (request->may_be_stale && !request->is_write && has_state);
}

/* Answer, or give back when `status` is not 0. The session may end in done(), but not while requests
 * of it wait. */
static void deliver(struct shard *shard, struct shard_request *request, int status,
                    struct bytes reply)
{
    ASSERT(request->session->pending_count > 0);
    request->session->pending_count--;
    shard->statistics.pending_request_count--;
    if (status != 0 && request->is_write && request->origin != 0 &&
        !BUG("shard.handed_back_still_pending")) {
        shard__window_forget_pending(shard->window, request->origin, request->sequence);
    }
    void *copy = request->copy; /* Valid during the call. */
    request->copy = NULL;
    request->done(request, status, reply); /* I6 */
    memory_free(copy);
}

/* Of one that has not been in a log of this leader, nor, as the window said, of another: where its range
 * is over, that is the end of it, and nobody has to wonder what became of it. */
static int status_without_effect(const struct shard *shard, const struct shard_request *request)
{
    return shard__has_moved(shard, request) ? ERROR_MOVED : ERROR_NOT_LEADER;
}

/* Start the first request that waits, or give it back. False: it has to wait on. */
static bool start_first(struct shard *shard, struct shard_session *session)
{
    struct shard_request *request = LIST_ITEM(session->waiting.next, struct shard_request, link);
    /* What it waited for was handed back if the reign is another. It must not come before that. */
    bool is_overtaken = request->reign != shard->reign &&
                        (!request->may_be_stale || shard__has_moved(shard, request));
    if (!may_start(shard, request) || is_overtaken || request->is_unwanted) {
        if (session->pending_count > 0) {
            return false; /* In their order: after those before it. */
        }
        list_remove(&request->link);
        session->pending_count++;
        deliver(shard, request, status_without_effect(shard, request), BYTES(""));
        return true;
    }
    if (session->pending_count > 0 && !request->is_write &&
        entry_of_order(shard, request) == NULL) {
        return false; /* A read that needs the disk, or a lease, waits for the writes before it. */
    }
    list_remove(&request->link);
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = request->protocol};
    if (start(shard, request, &reply) == SHARD_ANSWERED) {
        session->pending_count++;
        deliver(shard, request, 0, buffer_bytes(&answer));
    }
    buffer_deinit(&answer);
    return true;
}

/* Start what waits in the session, as far as it may. Answers go through done(). */
void shard__resume_session(struct shard *shard, struct shard_session *session)
{
    bool is_there = !list_is_empty(&session->waiting);
    while (is_there && !session->is_alone) {
        is_there = session->waiting.next != session->waiting.previous; /* More than one. */
        if (!start_first(shard, session)) {
            return;
        }
    }
}

static void finish(struct shard *shard, struct shard_request *request, int status,
                   struct bytes reply)
{
    struct shard_session *session = request->session;
    bool has_waiting = !list_is_empty(&session->waiting);
    deliver(shard, request, status, reply);
    if (has_waiting) {
        shard__resume_session(shard, session);
    }
}

void shard__answer(struct shard *shard, struct shard_request *request, struct bytes reply)
{
    finish(shard, request, 0, reply);
}

void shard__answer_early(struct shard *shard, struct shard_request *request, struct bytes reply)
{
    struct shard_session *session = request->session;
    bool has_waiting = !list_is_empty(&session->waiting); /* Then it does not end in done(). */
    shard->is_answering_early = true;
    deliver(shard, request, 0, reply);
    shard->is_answering_early = false;
    if (has_waiting && list_is_empty(&session->early)) {
        list_push_back(&shard->early, &session->early);
    }
}

void shard__resume_early(struct shard *shard)
{
    for (struct list *member; (member = list_pop_front(&shard->early)) != NULL;) {
        shard__resume_session(shard, LIST_ITEM(member, struct shard_session, early));
    }
}

void shard__hand_back(struct shard *shard, struct shard_request *request)
{
    finish(shard, request, ERROR_NOT_LEADER, BYTES(""));
}

void shard__hand_back_untouched(struct shard *shard, struct shard_request *request)
{
    finish(shard, request, status_without_effect(shard, request), BYTES(""));
}

static int start_write(struct shard *shard, struct shard_request *request,
                       const struct reply *reply)
{
    if (shard__declines(shard, request, reply)) {
        return SHARD_ANSWERED;
    }
    if (shard__must_wait(shard, request)) {
        shard__wait_for_lock(shard, request);
    } else if (is_in_memory(shard, request)) {
        shard__add_write(shard, request);
    } else {
        PROBE("shard.write_prefetched");
        shard__go_elsewhere(shard, request);
    }
    return SHARD_PENDING;
}

/* When a read happens. What expired by the newest applied stamp is gone. A replica that does not
 * lead knows of no later time: what it answers may be stale. */
static struct shard_moment moment_of(const struct shard *shard, const struct shard_request *request)
{
    return (struct shard_moment){
        .time_ms = shard_is_ready(shard) ? shard__time_ms(shard) : shard->applied_stamp_ms,
        .durable_time_ms = shard->applied_stamp_ms,
        .may_be_stale = request->may_be_stale,
    };
}

static int read_now(struct shard *shard, struct shard_request *request, const struct reply *reply)
{
    if (shard->is_splitting && !request->may_be_stale && !BUG("shard.read_while_splitting")) {
        shard__wait_for_lock(shard, request);
        return SHARD_PENDING;
    }
    struct shard_machine *machine = &shard->options.machine;
    struct shard_moment moment = moment_of(shard, request);
    size_t before = reply->target->size_bytes;
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    int status = machine->read(machine->context, shard->rows, &moment, &request->command, reply);
    if (status == 0) {
        return SHARD_ANSWERED;
    }
    reply->target->size_bytes = before;
    bool is_late = status == ERROR_EXPIRED_SEEN;
    if (status == ERROR_LOCKED || (is_late && shard__must_wait_for_log(shard, request))) {
        shard__wait_for_lock(shard, request);
    } else if (is_late) {
        PROBE("shard.read_through_log");
        shard__add_write(shard, request); /* I5 */
    } else {
        /* Incomplete, or a disk that fails: the worker finds out. */
        shard__go_elsewhere(shard, request);
    }
    return SHARD_PENDING;
}

/* A quorum has to say first that this is still the leader. */
static void wait_for_confirmation(struct shard *shard, struct shard_request *request)
{
    PROBE("shard.read_waits_for_round");
    shard__copy_command(request);
    request->session->pending_count++;
    request->session->is_alone = true;
    list_push_back(&shard->unconfirmed, &request->link);
}

static int start_read(struct shard *shard, struct shard_request *request, const struct reply *reply)
{
    if (request->session->pending_count > 0 && !BUG("shard.session_order_broken")) {
        struct shard_entry *entry = entry_of_order(shard, request);
        if (entry != NULL) {
            add_ordered_read(shard, entry, request);
        } else {
            wait_in_session(request, true);
        }
        return SHARD_PENDING;
    }
    if (!request->may_be_stale && !shard__is_confirmed(shard)) {
        wait_for_confirmation(shard, request);
        return SHARD_PENDING;
    }
    return read_now(shard, request, reply);
}

/* Answer what waited, in its order; what comes back to the list meanwhile waits again. */
static void resume(struct shard *shard, struct list *requests)
{
    struct list ready;
    list_init(&ready);
    list_append_all(&ready, requests);
    for (struct list *member; (member = list_pop_front(&ready)) != NULL;) {
        struct shard_request *request = LIST_ITEM(member, struct shard_request, link);
        struct shard_session *session = request->session;
        session->pending_count--;
        session->is_alone = false;
        struct buffer answer = {0};
        struct reply reply = {.target = &answer, .protocol = request->protocol};
        if (read_now(shard, request, &reply) == SHARD_ANSWERED) {
            session->pending_count++;
            shard__answer(shard, request, buffer_bytes(&answer));
        } else {
            shard__resume_session(shard, session);
        }
        buffer_deinit(&answer);
    }
}

void shard__resume_confirmed(struct shard *shard)
{
    bool does_any_wait = !list_is_empty(&shard->confirming) || !list_is_empty(&shard->unconfirmed);
    if (!does_any_wait || !shard_is_ready(shard)) {
        return;
    }
    bool has_lease = shard__has_lease(shard);
    if (!list_is_empty(&shard->confirming) &&
        (has_lease || shard->confirmed_round >= shard->confirm_round)) {
        resume(shard, &shard->confirming);
    }
    if (has_lease && !list_is_empty(&shard->unconfirmed)) {
        resume(shard, &shard->unconfirmed);
    }
}

/* A planted bug: what waits for a quorum is read though there is none. */
void shard__answer_unconfirmed(struct shard *shard)
{
    resume(shard, &shard->confirming);
    resume(shard, &shard->unconfirmed);
}

static int start(struct shard *shard, struct shard_request *request, const struct reply *reply)
{
    return request->is_write ? start_write(shard, request, reply)
                             : start_read(shard, request, reply);
}

void shard__resume_locked(struct shard *shard)
{
    struct list ready;
    list_init(&ready);
    list_append_all(&ready, &shard->locked);
    shard->may_resume_locked = false;
    shard__forget_waiting(
        shard); /* Until it is their turn: those behind a request do not hold it up. */
    for (struct list *member; (member = list_pop_front(&ready)) != NULL;) {
        struct shard_request *request = LIST_ITEM(member, struct shard_request, link);
        struct shard_session *session = request->session;
        if (request->is_unwanted) {
            PROBE("shard.unwanted_waited");
            session->is_alone = false;
            shard__hand_back_untouched(shard, request);
            continue;
        }
        if (shard__must_wait_for_log(shard, request)) {
            wait_behind(shard, request);
            continue;
        }
        session->pending_count--;
        session->is_alone = false;
        struct buffer answer = {0};
        struct reply reply = {.target = &answer, .protocol = request->protocol};
        if (start(shard, request, &reply) == SHARD_ANSWERED) {
            session->pending_count++;
            shard__answer(shard, request, buffer_bytes(&answer));
        } else {
            shard__resume_session(shard, session);
        }
        buffer_deinit(&answer);
    }
}

/* Would too much be in flight with so much more? What is a large part of all that may be goes beside half of it: where
 * others come all the time, it would never find less. */
static bool is_too_much(struct shard *shard, uint64_t size_bytes)
{
    uint64_t most = shard->options.in_flight_size_bytes_max;
    shard__account(shard);
    if (shard->in_flight_size_bytes == 0) {
        return false;
    }
    return size_bytes > most / 2 ? shard__is_beyond(shard, 0, most / 2, most / 4)
                                 : shard__is_beyond(shard, size_bytes, most, most / 2);
}

/* Refuse a write before anything changes; 0: it may go on. SHARD_ANSWERED is said by the window. */
static int admit_write(struct shard *shard, const struct shard_request *request)
{
    uint64_t size = shard__command_size_bytes(&request->command);
    if (size > WAL_ENTRY_SIZE_BYTES_MAX / 2) {
        return -E2BIG;
    }
    if (request->does_grow && shard->is_full) {
        return -ENOSPC;
    }
    return shard->is_transferring || is_too_much(shard, size) ? -EBUSY : 0;
}

/* I7: has it happened, is it on its way, or is it new? */
static int look_up_identity(struct shard *shard, const struct shard_request *request,
                            const struct reply *reply, bool *is_answered)
{
    *is_answered = false;
    if (request->origin == 0 || !request->is_retry || BUG("shard.identity_ignored")) {
        return 0; /* No log has seen it. */
    }
    struct bytes answer = {0};
    switch (shard__window_find(shard->window, request->origin, request->sequence, &answer)) {
    case SHARD_WINDOW_ANSWERED:
        PROBE("shard.retry_answered");
        shard->statistics.retry_answered_count++;
        buffer_append(reply->target, answer);
        *is_answered = true;
        return 0;
    case SHARD_WINDOW_PENDING:
        PROBE("shard.retry_on_its_way");
        return -EBUSY;
    case SHARD_WINDOW_FORGOTTEN:
        if (BUG("shard.forgotten_ignored")) {
            break;
        }
        PROBE("shard.retry_forgotten");
        return ERROR_OUTCOME_UNKNOWN; /* Nobody waits for it. */
    case SHARD_WINDOW_UNKNOWN:
        break;
    }
    if (request->known_index < shard__window_covered(shard->window) &&
        !BUG("shard.window_end_ignored")) {
        PROBE("shard.retry_outcome_unknown");
        return ERROR_OUTCOME_UNKNOWN;
    }
    return 0;
}

/* What took effect before a split is answered by the parent. 0: the request may go on. */
static int admit(struct shard *shard, const struct shard_request *request,
                 const struct reply *reply, bool *is_answered)
{
    int status = 0;
    *is_answered = false;
    bool has_moved = shard__has_moved(shard, request);
    if (request->is_write && !(has_moved && BUG("shard.moved_before_window"))) {
        status = look_up_identity(shard, request, reply, is_answered);
    }
    if (status != 0 || *is_answered) {
        return status;
    }
    if (has_moved && !BUG("shard.range_ignored")) {
        PROBE("shard.request_moved");
        return ERROR_MOVED;
    }
    if (shard__lags(shard, request) && (request->is_write || !request->may_be_stale)) {
        PROBE("shard.request_ahead");
        return -EBUSY; /* Not refused for good: what its session asks next might be taken. */
    }
    return request->is_write ? admit_write(shard, request) : 0;
}

/* One request in many. What a replica that does not lead answers is not asked of the leader. */
static void note_demand(struct shard *shard, const struct shard_command *command)
{
    const struct shard_machine *machine = &shard->options.machine;
    int32_t slot = -1;
    if (machine->slot_of != NULL && shard_is_ready(shard)) {
        slot = machine->slot_of(machine->context, command, demand_choose(&shard->demand));
    }
    if (slot < 0) {
        demand_pass(&shard->demand);
    } else {
        demand_note(&shard->demand, (uint32_t)slot, shard__now_ms(shard));
    }
}

bool shard_halve_demand(const struct shard *shard, uint32_t first_slot, uint32_t end_slot,
                        struct demand_halves *halves)
{
    return demand_halve(&shard->demand, first_slot, end_slot, shard__now_ms(shard), halves);
}

int shard_submit(struct shard *shard, struct shard_request *request, const struct reply *reply)
{
    if (shard->is_answering_early) {
        PROBE("shard.submitted_in_the_midst");
        return -EBUSY;
    }
    if (!may_start(shard, request) && !BUG("shard.read_before_ready")) {
        return ERROR_NOT_LEADER;
    }
    request->copy = NULL;
    request->load_size_bytes = 0;
    request->needed_index = shard->applied_index;
    request->reign = shard->reign;
    struct shard_session *session = request->session;
    bool is_answered = false;
    int status = admit(shard, request, reply, &is_answered);
    if (status != 0 || is_answered) {
        return status != 0 ? status : SHARD_ANSWERED;
    }
    if (!request->is_write) {
        shard->statistics.read_count++;
    } else if (request->origin != 0 && !BUG("shard.identity_ignored")) {
        shard__window_add_pending(shard->window, request->origin, request->sequence);
    }
    if (demand_is_next(&shard->demand)) {
        note_demand(shard, &request->command);
    }
    bool must_wait = session->is_alone || !list_is_empty(&session->waiting);
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
