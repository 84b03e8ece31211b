/* SPDX-License-Identifier: Apache-2.0 */
/* Applying committed entries. An entry is answered once it is executed: the log has it, and readers
 * of the rows see it; where its replies are large, those of what is executed go before the rest is. Its
 * changes go to the store later, see shard_store.c. When they are too many, answers wait for it. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    EARLY_SIZE_BYTES_DEFAULT = 4 << 20,
    APPROACHED_COUNT = 32, /* So many commands' rows are brought near before they are executed. */
};

void shard__fail(struct shard *shard, int status, const struct error *error)
{
    if (!shard->has_failed) {
        shard->has_failed = true;
        shard->options.host.failed(shard->options.host.context, shard, status, error);
    }
}

/* I3: time never goes back, whatever the wall clock does. */
uint64_t shard__time_ms(const struct shard *shard)
{
    uint64_t wall_ms = shard->options.host.clock.wall_ms(shard->options.host.clock.context);
    if (BUG("shard.stamp_goes_back")) {
        return wall_ms;
    }
    return wall_ms > shard->stamp_ms ? wall_ms : shard->stamp_ms;
}

/* Execute the next command of the entry. The reply is for `request`, or for whoever may ask for it
 * again. */
static int execute_command(struct shard *shard, struct shard_decoder *decoder,
                           struct shard_entry *entry, uint32_t ordinal,
                           const struct shard_request *request, struct error *error)
{
    struct shard_decoded decoded;
    int status = shard__decode_next(shard, decoder, &decoded);
    if (status == 0 && shard->split.child != 0) {
        status = ERROR_CORRUPT; /* Nothing stands behind SPLIT. */
    }
    if (status != 0) {
        return error_set(error, status, "shard %u: entry %llu, command %u", shard->options.id,
                         (unsigned long long)entry->index, ordinal);
    }
    struct shard_stamp stamp = {
        .time_ms = decoder->time_ms,
        .version = entry->index << 16 | ordinal,
        .known = shard->known != NULL ? shard->known[ordinal] : 0,
        .found = ordinal < shard->found.size_bytes ? shard->found.data + ordinal : NULL,
    };
    struct reply reply = {.target = &entry->answers.replies,
                          .protocol = request != NULL ? request->protocol : decoded.protocol};
    size_t start = entry->answers.replies.size_bytes;
    shard->statistics.command_count++;
    struct shard_machine *machine = &shard->options.machine;
    status =
        decoded.command.opcode == SHARD_OPCODE_SPLIT
            ? shard__split_note(shard, &decoded.command)
            : machine->execute(machine->context, shard->rows, &stamp, &decoded.command, &reply);
    if (status != 0) {
        return error_set(error, status, "shard %u: apply entry %llu, command %u", shard->options.id,
                         (unsigned long long)entry->index, ordinal);
    }
    if (decoded.origin != 0 && shard->is_window_open) {
        shard__window_add(shard->window, decoded.origin, decoded.sequence,
                          bytes_make(entry->answers.replies.data + start,
                                     entry->answers.replies.size_bytes - start));
    }
    return 0;
}

/* A read that was ordered behind writes of its session. It happens at the entry's stamp, which the
 * log has, so what expired by then may be seen as gone. */
static int execute_read(struct shard *shard, const struct shard_request *request, uint64_t time_ms,
                        const struct reply *reply, struct error *error)
{
    struct shard_machine *machine = &shard->options.machine;
    struct shard_moment moment = {
        .time_ms = time_ms, .durable_time_ms = time_ms, .may_be_stale = request->may_be_stale};
    int status = machine->read(machine->context, shard->rows, &moment, &request->command, reply);
    if (status != 0) {
        return error_set(error, status, "shard %u: read", shard->options.id);
    }
    return 0;
}

/* Have the rows of the next commands fetched from memory, all at the same time. What is wrong with one is
 * said when it is executed. */
static void approach(struct shard *shard, const struct shard_decoder *decoder, uint32_t count)
{
    const struct shard_machine *machine = &shard->options.machine;
    uint64_t approaches[APPROACHED_COUNT];
    uint32_t approached_count = 0;
    struct shard_decoder ahead = *decoder;
    struct shard_decoded decoded;
    if (machine->approach == NULL || count < 2) {
        return;
    }
    while (approached_count < count && approached_count < APPROACHED_COUNT &&
           shard__decode_next(shard, &ahead, &decoded) == 0) {
        approaches[approached_count++] =
            machine->approach(machine->context, shard->rows, &decoded.command);
    }
    for (uint32_t i = 0; i < approached_count; i++) {
        rows_approach_row(shard->rows, approaches[i]);
    }
}

static int execute_next(struct shard *shard, struct shard_decoder *decoder,
                        struct shard_entry *entry, uint32_t ordinal,
                        const struct shard_request *request, struct error *error)
{
    if (ordinal % APPROACHED_COUNT == 0 && ordinal < decoder->command_count) {
        approach(shard, decoder, decoder->command_count - ordinal);
    }
    return execute_command(shard, decoder, entry, ordinal, request, error);
}

/* Answer the items before `end`, whose replies are `replies`. */
static void answer_items(struct shard *shard, struct shard_entry *entry, uint32_t end,
                         void (*answer)(struct shard *shard, struct shard_request *request,
                                        struct bytes reply))
{
    struct shard_answers *answers = &entry->answers;
    size_t start = 0;
    for (; answers->answered_count < end; answers->answered_count++) {
        const struct shard_item *item = &answers->items[answers->answered_count];
        struct bytes reply = bytes_make(answers->replies.data + start, item->reply_end - start);
        start = item->reply_end;
        if (item->request != NULL) {
            answer(shard, item->request, reply);
        } else {
            shard->is_background_pending = false;
        }
    }
}

static uint32_t early_size_bytes(const struct shard *shard)
{
    uint32_t wished = shard->options.early_size_bytes;
    return wished == 0 ? EARLY_SIZE_BYTES_DEFAULT : wished;
}

/* A few short requests may ask for more than all memory together. What is executed is answered then, and
 * goes, before the rest is: the entry is committed, so that its end changes nothing of that (I1). */
static void answer_what_is_executed(struct shard *shard, struct shard_entry *entry, uint32_t end)
{
    PROBE("shard.answered_early");
    answer_items(shard, entry, end, shard__answer_early);
    buffer_clear(&entry->answers.replies);
    buffer_trim(&entry->answers.replies, early_size_bytes(shard));
}

static int execute_commands(struct shard *shard, struct shard_entry *entry,
                            struct shard_decoder *decoder, struct error *error)
{
    int status = 0;
    uint32_t ordinal = 0;
    for (uint32_t i = 0; i < entry->answers.item_count && status == 0; i++) {
        struct shard_item *item = &entry->answers.items[i];
        if (item->is_write) {
            status = execute_next(shard, decoder, entry, ordinal++, item->request, error);
        } else {
            struct reply reply = {.target = &entry->answers.replies,
                                  .protocol = item->request->protocol};
            status = execute_read(shard, item->request, decoder->time_ms, &reply, error);
        }
        item->reply_end = entry->answers.replies.size_bytes;
        if (status == 0 && item->reply_end > early_size_bytes(shard)) {
            answer_what_is_executed(shard, entry, i + 1);
        }
    }
    /* An entry of another leader has no items: nobody here waits for its replies. */
    for (; ordinal < decoder->command_count && status == 0; ordinal++) {
        buffer_clear(&entry->answers.replies);
        status = execute_next(shard, decoder, entry, ordinal, NULL, error);
    }
    return status;
}

static int take_configuration(struct shard *shard, const struct shard_entry *entry,
                              struct error *error)
{
    enum raft_entry_kind kind;
    int status = shard__payload_kind(buffer_bytes(&entry->payload), &kind, &shard->configuration);
    if (status != 0) {
        return error_set(error, status, "shard %u: the configuration in entry %llu",
                         shard->options.id, (unsigned long long)entry->index);
    }
    shard->configuration_index = entry->index;
    return 0;
}

/* ---- Answers for those who ask again --------------------------------------------------------- */

static void window_begin(struct shard *shard, const struct shard_entry *entry)
{
    if (shard_is_ready(shard) || !shard__is_alone(shard)) {
        shard->options.is_asked_by_host_only = false; /* The replay is over, or others may ask. */
    }
    shard->is_window_open = !shard->options.is_asked_by_host_only;
    if (shard->is_window_open) {
        shard__window_begin(shard->window, entry->index);
    } else {
        shard__window_reset(shard->window, entry->index);
    }
}

static void window_end(struct shard *shard)
{
    if (shard->is_window_open) {
        shard__window_end(shard->window);
    }
}

/* ---- What the commands find ------------------------------------------------------------------ */

/* What is to be noted of the entry; and what was found in another life, by the same entry on the same
 * state, is known from now on. */
static struct recall_entry recall_begin(struct shard *shard, const struct shard_entry *entry,
                                        uint32_t count)
{
    struct shard_host *host = &shard->options.host;
    buffer_clear(&shard->found);
    shard->known = NULL;
    if (host->note_found == NULL || count == 0) {
        return (struct recall_entry){0};
    }
    memset(buffer_extend(&shard->found, count), 0, count);
    struct recall_entry found = {.shard = shard->options.id,
                                 .index = entry->index,
                                 .term = entry->term,
                                 .digest = hash_bytes(buffer_bytes(&entry->payload), shard->digest),
                                 .found = buffer_bytes(&shard->found)};
    struct recall_entry known = found;
    if (entry->answers.item_count == 0 && host->recall_found(host->context, &known) &&
        known.digest == found.digest) {
        shard->known = known.found.data;
    }
    return found;
}

static void recall_end(struct shard *shard, const struct recall_entry *found)
{
    shard->known = NULL;
    if (found->found.size_bytes > 0) {
        shard->options.host.note_found(shard->options.host.context, found);
    }
}

static int execute_entry(struct shard *shard, struct shard_entry *entry, struct error *error)
{
    struct shard_decoder decoder = {0};
    int status = shard__entry_is_configuration(entry)
                     ? take_configuration(shard, entry, error)
                     : shard__decode_begin(&decoder, buffer_bytes(&entry->payload));
    if (status != 0) {
        return error_set(error, status, "shard %u: entry %llu", shard->options.id,
                         (unsigned long long)entry->index);
    }
    if (decoder.command_count == 0) {
        decoder.time_ms = shard->applied_stamp_ms; /* For reads that were ordered behind it. */
    }
    shard__entry_lend_answers(shard, entry);
    window_begin(shard, entry);
    struct recall_entry found = recall_begin(shard, entry, decoder.command_count);
    status = execute_commands(shard, entry, &decoder, error);
    if (status == 0) {
        recall_end(shard, &found);
    }
    window_end(shard);
    if (decoder.time_ms > shard->applied_stamp_ms) {
        shard->applied_stamp_ms = decoder.time_ms;
    }
    if (decoder.time_ms > shard->stamp_ms) {
        shard->stamp_ms = decoder.time_ms; /* Another leader's. */
    }
    return status;
}

static void answer_entry(struct shard *shard, struct shard_entry *entry)
{
    answer_items(shard, entry, entry->answers.item_count, shard__answer);
    if (shard__log_at(shard, entry->index) != entry) {
        shard__entry_give(shard, entry); /* It was read from the log. */
        return;
    }
    shard__entry_end_answers(shard, entry);
    shard__log_trim(shard);
}

/* Answer the entry; where the store is due, its changes must be on their way first, so that they
 * cannot grow without end. False: those before them are not written yet. */
static bool finish_entry(struct shard *shard, struct shard_entry *entry)
{
    shard->stalled = NULL;
    if (shard__is_store_due(shard)) {
        shard__hear_of_writes(shard);
        if (shard->has_failed || (!shard__hand_over(shard) && !shard__may_exceed(shard))) {
            shard->stalled = entry;
            return false;
        }
    } else if (shard->ahead.count == 0) {
        shard->may_exceed = false; /* The replay is over, and what it left is on its way. */
    }
    shard->statistics.entry_count++;
    answer_entry(shard, entry);
    return true;
}

void shard__answer_stalled(struct shard *shard)
{
    struct shard_entry *entry = shard->stalled;
    if (entry != NULL) {
        shard->stalled = NULL;
        answer_entry(shard, entry);
    }
}

static bool apply_entry(struct shard *shard, struct shard_entry *entry)
{
    struct error error = {0};
    ASSERT(entry->index == shard->applied_index + 1); /* I2 */
    if (shard->handed_index == shard->applied_index) {
        struct env_clock *clock = &shard->options.host.clock;
        shard->unstored_since_ms = clock->now_ms(clock->context);
    }
    rows_set_digest(shard->rows, shard->digest);
    rows_set_tier(shard->rows, ENV_TIER_DISK);
    rows_expect_disk(shard->rows, !shard_is_ready(shard)); /* A replay. */
    int status = execute_entry(shard, entry, &error);
    if (status == 0) {
        shard->applied_index = entry->index;
        shard->applied_term = entry->term;
        shard->digest = rows_digest(shard->rows);
    }
    if (status == 0 && shard->split.child != 0) {
        status = shard__split_apply(shard, &error);
    }
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    if (status != 0) {
        shard->stalled = entry;
        shard__fail(shard, status, &error);
        return false;
    }
    TRACE("shard.applied", shard->options.id, shard->applied_index, shard->digest,
          entry->answers.item_count);
    shard__resume_early(shard);
    return finish_entry(shard, entry);
}

/* The entry has left memory, or is from before the start. */
static int load_entry(struct shard *shard, struct shard_entry *entry, struct error *error)
{
    if (shard__reread_has(shard, entry->index)) {
        return shard__reread_take(shard, entry, error);
    }
    if (shard__ahead_take(shard, entry)) {
        return 0;
    }
    struct shard_host *host = &shard->options.host;
    return host->load_entry(host->context, shard->options.id, entry->index, &entry->term,
                            &entry->payload, error);
}

/* The committed entry after the applied one. NULL: failed, or it has to be read first. */
static struct shard_entry *next_entry(struct shard *shard)
{
    raft_index index = shard->applied_index + 1;
    struct shard_entry *kept = shard__log_at(shard, index);
    if (kept != NULL) {
        if (shard->ahead.count > 0) {
            shard__ahead_deinit(shard); /* What was to be read from the log is behind. */
        }
        ASSERT(shard->reread == NULL);
        shard__log_land(shard, kept);
        return kept;
    }
    if (shard__reread_has(shard, index)) {
        if (shard->ahead.count > 0) {
            shard__ahead_deinit(shard); /* As above. */
        }
        if (!shard__reread_is_back(shard, index)) {
            return NULL;
        }
    }
    struct error error = {0};
    struct shard_entry *entry = shard__entry_take(shard);
    entry->index = index;
    int status = load_entry(shard, entry, &error);
    if (status != 0) {
        shard__entry_give(shard, entry);
        shard__fail(shard, status, &error);
        return NULL;
    }
    return entry;
}

static void apply_committed(struct shard *shard)
{
    if (shard->stalled != NULL && !finish_entry(shard, shard->stalled)) {
        return;
    }
    while (shard->applied_index < shard->commit_index) {
        struct shard_entry *entry = next_entry(shard);
        if (entry == NULL || !apply_entry(shard, entry)) {
            return;
        }
    }
}

void shard__apply_committed(struct shard *shard)
{
    if (shard->has_failed || shard->is_stateless) {
        return;
    }
    raft_index applied_index = shard->applied_index;
    apply_committed(shard);
    if (shard->applied_index != applied_index) {
        shard__look_at_background(shard);
    }
    if (shard->is_split_unanswered && shard->stalled == NULL) {
        shard__split_hand_back(shard);
    }
    if (list_is_empty(&shard->locked)) {
        return;
    }
    /* To look at all that wait, at each message and tick, is dear where many do. */
    if (shard->applied_index != applied_index) {
        shard->may_resume_locked = true;
    }
    if (shard->may_resume_locked && shard_is_ready(shard)) {
        shard__resume_locked(shard);
    }
}
