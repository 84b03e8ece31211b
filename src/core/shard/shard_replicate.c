/* SPDX-License-Identifier: Apache-2.0 */
/* Between Raft and the network: what Raft sends gets its entries here and leaves when what it tells
 * of is durable; what comes from others is taken apart and given to Raft.
 *
 * Entries that a member needs and that are not in memory any more are read from the log by whoever
 * drives it. Until they are there, everything else for that member waits behind them: Raft would
 * take a later entry that comes first for a gap, and begin to probe. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    /* More entries than this go as several messages, so that heartbeats find their way between. */
    MESSAGE_SIZE_BYTES_SOFT_MAX = 1 << 20,
    /* Whoever drives the log does nothing else while it reads; the rest is asked for anew. */
    READ_SIZE_BYTES_SOFT_MAX = 1 << 20,
    /* Sends that wait for the disk; beyond, the oldest are dropped, as a network may do. */
    WAITING_SEND_COUNT_MAX = 1024,
};

/* ---- Messages that wait for the disk --------------------------------------------------------- */

struct waiting_send {
    struct list link;
    uint64_t after_sequence;
    struct raft_message message;
};

static void send_pieces(struct shard *shard, raft_node to, const struct bytes *pieces,
                        uint32_t piece_count)
{
    struct shard_host *host = &shard->options.host;
    host->send(host->context, shard, to, pieces, piece_count);
}

static bool is_beat(const struct raft_message *message)
{
    return message->kind == RAFT_MESSAGE_HEARTBEAT_REQUEST ||
           message->kind == RAFT_MESSAGE_HEARTBEAT_REPLY;
}

static void send_bare(struct shard *shard, const struct raft_message *message)
{
    struct shard_host *host = &shard->options.host;
    if (is_beat(message) && host->send_beat != NULL &&
        host->send_beat(host->context, shard, message)) {
        return;
    }
    uint8_t header[SHARD_MESSAGE_RAFT_SIZE_BYTES];
    shard__message_encode_raft(message, header);
    struct bytes piece = bytes_make(header, sizeof header);
    send_pieces(shard, message->to, &piece, 1);
}

static void wait_for_disk(struct shard *shard, const struct raft_send *send)
{
    if (shard->waiting_send_count == WAITING_SEND_COUNT_MAX) {
        PROBE("shard.waiting_send_dropped");
        memory_free(LIST_ITEM(list_pop_front(&shard->waiting_sends), struct waiting_send, link));
        shard->waiting_send_count--;
    }
    struct list *spare = list_pop_front(&shard->spare_sends);
    struct waiting_send *waiting = spare != NULL ? LIST_ITEM(spare, struct waiting_send, link)
                                                 : memory_allocate(sizeof *waiting);
    *waiting =
        (struct waiting_send){.after_sequence = send->after_sequence, .message = send->message};
    list_push_back(&shard->waiting_sends, &waiting->link);
    shard->waiting_send_count++;
}

/* Numbers of things to make durable grow, so those that may leave stand in front. */
void shard__send_what_is_durable(struct shard *shard)
{
    while (!list_is_empty(&shard->waiting_sends)) {
        struct waiting_send *waiting =
            LIST_ITEM(shard->waiting_sends.next, struct waiting_send, link);
        if (waiting->after_sequence > shard->durable_sequence) {
            return;
        }
        list_remove(&waiting->link);
        shard->waiting_send_count--;
        send_bare(shard, &waiting->message);
        if (list_is_empty(&shard->spare_sends)) {
            list_push_front(&shard->spare_sends, &waiting->link);
        } else {
            memory_free(waiting);
        }
    }
}

/* ---- Appends --------------------------------------------------------------------------------- */

/* Appends of a member whose entries have to be read, and those behind them. */
struct append_read {
    struct shard_log_read read;
    struct list link; /* In shard->log_reads. */
    struct raft_message message;
    bool is_under_way; /* Where the log is driven; else it only waits for those before it. */
    bool is_cancelled;
};

_Static_assert(RAFT_APPEND_ENTRY_COUNT_MAX <= SHARD_LOG_READ_COUNT_MAX,
               "an append is read at once");
_Static_assert(sizeof(struct append_read) <= 640,
               "a leader of thousands of shards has some for each member that lags");

/* One message of an append: entries `from` .. `from + count` (positions in the append). */
struct part {
    struct raft_message message;
    uint32_t count;
    raft_term terms[RAFT_APPEND_ENTRY_COUNT_MAX];
    struct bytes payloads[RAFT_APPEND_ENTRY_COUNT_MAX];
};

static void send_part(struct shard *shard, const struct part *part)
{
    uint8_t header[SHARD_MESSAGE_RAFT_SIZE_BYTES];
    uint8_t heads[RAFT_APPEND_ENTRY_COUNT_MAX][SHARD_MESSAGE_ENTRY_SIZE_BYTES];
    struct bytes pieces[1 + 2 * RAFT_APPEND_ENTRY_COUNT_MAX];
    uint32_t piece_count = 0;
    struct raft_message message = part->message;
    message.entry_count = part->count;
    shard__message_encode_raft(&message, header);
    pieces[piece_count++] = bytes_make(header, sizeof header);
    for (uint32_t i = 0; i < part->count; i++) {
        shard__message_encode_entry(part->terms[i], part->payloads[i].size_bytes, heads[i]);
        pieces[piece_count++] = bytes_make(heads[i], sizeof heads[i]);
        pieces[piece_count++] = part->payloads[i];
    }
    send_pieces(shard, message.to, pieces, piece_count);
}

/* Add an entry to the part; when the part is large enough already, it is sent first. */
static void add_to_part(struct shard *shard, struct part *part, uint64_t *size_bytes,
                        raft_term term, struct bytes payload)
{
    if (part->count > 0 && *size_bytes + payload.size_bytes > MESSAGE_SIZE_BYTES_SOFT_MAX) {
        send_part(shard, part);
        part->message.index += part->count;
        part->message.index_term = part->terms[part->count - 1];
        part->count = 0;
        *size_bytes = 0;
    }
    part->terms[part->count] = term;
    part->payloads[part->count] = payload;
    part->count++;
    *size_bytes += payload.size_bytes;
}

static bool is_in_memory(const struct shard *shard, const struct raft_message *message)
{
    return message->entry_count == 0 || shard__log_at(shard, message->index + 1) != NULL;
}

/* The log may have been cut since Raft asked for this: then what is left goes. */
static void send_from_memory(struct shard *shard, const struct raft_message *message)
{
    struct part part;
    part.message = *message;
    part.count = 0;
    uint64_t size_bytes = 0;
    for (uint32_t i = 0; i < message->entry_count; i++) {
        const struct shard_entry *entry = shard__log_at(shard, message->index + 1 + i);
        if (entry == NULL) {
            break;
        }
        add_to_part(shard, &part, &size_bytes, entry->term, buffer_bytes(&entry->payload));
    }
    send_part(shard, &part);
}

static void send_at_once(struct shard *shard, const struct raft_message *message)
{
    if (message->entry_count == 0) {
        send_bare(shard, message);
    } else {
        send_from_memory(shard, message);
    }
}

static void send_what_was_read(struct shard *shard, const struct append_read *append)
{
    const struct shard_log_read *read = &append->read;
    struct part part;
    part.message = append->message;
    part.count = 0;
    uint64_t size_bytes = 0;
    for (uint32_t i = 0; i < read->entry_count; i++) {
        add_to_part(shard, &part, &size_bytes, read->entries[i].term,
                    shard__log_read_payload(read, i));
    }
    send_part(shard, &part);
}

/* ---- Entries that are read from the log ------------------------------------------------------ */

static struct append_read *read_of(const struct shard *shard, raft_node node)
{
    LIST_EACH(member, next, &shard->log_reads)
    {
        struct append_read *read = LIST_ITEM(member, struct append_read, link);
        if (read->message.to == node && !read->is_cancelled) {
            return read;
        }
    }
    return NULL;
}

void shard__log_read_deinit(struct shard_log_read *read)
{
    memory_free(read->entries);
    buffer_deinit(&read->payloads);
}

struct bytes shard__log_read_payload(const struct shard_log_read *read, uint32_t i)
{
    size_t start = i == 0 ? 0 : read->entries[i - 1].payload_end;
    return bytes_make(read->payloads.data + start, read->entries[i].payload_end - start);
}

static void free_read(struct append_read *read)
{
    list_remove(&read->link);
    shard__log_read_deinit(&read->read);
    memory_free(read);
}

static void append_is_read(struct shard_log_read *read);

static void start_read(struct shard *shard, struct append_read *read)
{
    struct shard_host *host = &shard->options.host;
    ASSERT(!read->is_under_way);
    read->is_under_way = true;
    read->read.shard = shard;
    read->read.first_index = read->message.index + 1;
    read->read.wished_count = read->message.entry_count;
    read->read.done = append_is_read;
    shard->log_reads_under_way++;
    host->read_log(host->context, &read->read);
}

/* What waits for the member from `index` on, and before `end`, is of no use. Returns up to which entry it reached. */
static raft_index drop_waiting(struct shard *shard, raft_node node, raft_index index,
                               raft_index end)
{
    raft_index reached_index = 0;
    LIST_EACH(member, next, &shard->log_reads)
    {
        struct append_read *read = LIST_ITEM(member, struct append_read, link);
        const struct raft_message *message = &read->message;
        if (message->to == node && !read->is_under_way && message->index >= index &&
            message->index < end) {
            reached_index = number_max(reached_index, message->index + message->entry_count);
            free_read(read);
        }
    }
    return reached_index;
}

/* Raft went back, or asks once more, where it has sent what stands further behind already. */
static void send_behind_reads(struct shard *shard, const struct raft_message *message)
{
    (void)drop_waiting(shard, message->to, message->index, UINT64_MAX);
    bool is_first = read_of(shard, message->to) == NULL;
    if (is_first && is_in_memory(shard, message)) {
        send_at_once(shard, message); /* It stood behind what was dropped. */
        return;
    }
    struct append_read *read = memory_allocate_zeroed(1, sizeof *read);
    read->message = *message;
    list_push_back(&shard->log_reads, &read->link);
    if (is_first) {
        start_read(shard, read);
    }
}

void shard_log_read_run(struct shard_log_read *read, struct wal *wal)
{
    struct wal_shard_state state;
    wal_shard id = read->shard->options.id;
    if (wal_get_shard_state(wal, id, &state)) {
        read->readable_index = state.first_index != 0 ? state.first_index : state.last_index + 1;
    }
    ASSERT(read->wished_count > 0 && read->wished_count <= SHARD_LOG_READ_COUNT_MAX);
    read->entries = memory_allocate(read->wished_count * sizeof read->entries[0]);
    for (uint32_t i = 0; i < read->wished_count; i++) {
        struct shard_read_entry *entry = &read->entries[i];
        read->status =
            wal_read(wal, id, read->first_index + i, &entry->term, &read->payloads, &read->failure);
        if (read->status != 0) {
            break; /* What could not be read is asked for again. */
        }
        entry->payload_end = read->payloads.size_bytes;
        read->entry_count++;
        if (read->payloads.size_bytes >= READ_SIZE_BYTES_SOFT_MAX) {
            break;
        }
    }
}

/* The first entry that the member needs cannot be read back: damage that came since the log was
 * opened. The store has what it did, so a snapshot takes its place; the next start will find it. */
static void give_unreadable_up(struct shard *shard, const struct append_read *append)
{
    const struct shard_log_read *read = &append->read;
    bool is_damage = read->failure.code == ERROR_CORRUPT || read->failure.code == -EIO;
    raft_index index = append->message.index + 1;
    if (read->entry_count > 0 || !is_damage || index > shard->stored_index) {
        return; /* It will be asked for again, when the store has it. */
    }
    PROBE("shard.entry_unreadable");
    TRACE("shard.entry_unreadable", shard->options.id, index, append->message.to, 0);
    shard->statistics.unreadable_count++;
    shard__compacted(shard, index);
}

/* Go on with what waits for the member behind a read that is done. (The next may be under way: what the read
 * has shown may have had Raft send again.) */
static void go_on(struct shard *shard, raft_node node)
{
    for (struct append_read *read; (read = read_of(shard, node)) != NULL && !read->is_under_way;) {
        if (!is_in_memory(shard, &read->message)) {
            start_read(shard, read);
            return;
        }
        send_at_once(shard, &read->message);
        free_read(read);
    }
}

static void append_is_read(struct shard_log_read *read)
{
    struct shard *shard = read->shard;
    struct append_read *append = LIST_ITEM(read, struct append_read, read);
    raft_node node = append->message.to;
    bool is_of_use = !append->is_cancelled && shard->role == RAFT_ROLE_LEADER;
    raft_index readable_index = read->readable_index;
    bool is_gone = is_of_use && readable_index > append->message.index + 1;
    raft_index asked_index = append->message.index + append->message.entry_count;
    raft_index sent_index = append->message.index + read->entry_count;
    bool is_sent = is_of_use && read->entry_count > 0;
    if (is_sent) { /* What waits may be the same once more, and go on behind it. */
        send_what_was_read(shard, append);
        asked_index =
            number_max(asked_index, drop_waiting(shard, node, append->message.index, sent_index));
    }
    if (is_of_use) {
        give_unreadable_up(shard, append);
    }
    free_read(append);
    if (is_gone) {
        PROBE("shard.entries_gone_from_log");
        shard__compacted(shard, readable_index - 1);
    }
    if (is_sent && asked_index > sent_index) {
        (void)drop_waiting(shard, node, sent_index + 1, UINT64_MAX); /* Behind a gap now. */
        shard__append_cut(shard, node, sent_index);
    }
    if (shard->role == RAFT_ROLE_LEADER) {
        go_on(shard, node);
    }
}

void shard_log_read_done(struct shard_log_read *read)
{
    struct shard *shard = read->shard;
    ASSERT(shard->log_reads_under_way > 0);
    shard->log_reads_under_way--;
    read->done(read);
    shard__finish_step(shard);
}

/* What waits to be sent by a leader is of no use any more. */
void shard__cancel_reads(struct shard *shard)
{
    LIST_EACH(member, next, &shard->log_reads)
    {
        struct append_read *read = LIST_ITEM(member, struct append_read, link);
        if (read->is_under_way) {
            read->is_cancelled = true; /* It comes back. */
        } else {
            free_read(read);
        }
    }
}

/* ---- Sending --------------------------------------------------------------------------------- */

void shard__send(struct shard *shard, const struct raft_send *sends, uint32_t send_count)
{
    for (uint32_t i = 0; i < send_count; i++) {
        const struct raft_message *message = &sends[i].message;
        if (sends[i].after_sequence > shard->durable_sequence) {
            ASSERT(message->entry_count == 0);
            wait_for_disk(shard, &sends[i]);
        } else if (message->kind != RAFT_MESSAGE_APPEND_REQUEST) {
            send_bare(shard, message);
        } else if (read_of(shard, message->to) != NULL || !is_in_memory(shard, message)) {
            send_behind_reads(shard, message);
        } else {
            send_at_once(shard, message);
        }
    }
}

void shard__replicate_init(struct shard *shard)
{
    list_init(&shard->waiting_sends);
    list_init(&shard->spare_sends);
    list_init(&shard->log_reads);
}

void shard__replicate_deinit(struct shard *shard)
{
    list_append_all(&shard->waiting_sends, &shard->spare_sends);
    for (struct list *member; (member = list_pop_front(&shard->waiting_sends)) != NULL;) {
        memory_free(LIST_ITEM(member, struct waiting_send, link));
    }
    ASSERT(shard->log_reads_under_way == 0);
    LIST_EACH(member, next, &shard->log_reads)
    {
        free_read(LIST_ITEM(member, struct append_read, link));
    }
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static void malformed(struct shard *shard, raft_node from, int status)
{
    shard->statistics.malformed_count++;
    TRACE("shard.malformed", shard->options.id, from, (uint64_t)(int64_t)status, 0);
}

/* Whoever hears that makes promises, or acknowledges entries. */
static bool may_be_answered(enum raft_message_kind kind)
{
    return kind == RAFT_MESSAGE_VOTE_REQUEST || kind == RAFT_MESSAGE_APPEND_REQUEST ||
           kind == RAFT_MESSAGE_HEARTBEAT_REQUEST || kind == RAFT_MESSAGE_TIMEOUT_NOW;
}

static int receive_raft(struct shard *shard, raft_node from, struct bytes message)
{
    struct shard_received received;
    int status = shard__message_decode_raft(message, &received);
    if (status != 0) {
        return status;
    }
    received.message.from = from;
    received.message.to = shard->options.self;
    if (shard->is_narrow && received.message.entry_count > 0 && received.message.index == 0) {
        PROBE("shard.first_entries_refused");
        shard__ask_narrow(shard, from);
        return 0; /* As if they were lost: the leader will have a snapshot. */
    }
    if (may_be_answered(received.message.kind)) {
        shard__ask_later(shard);
    }
    shard__step_received(shard, &received);
    return 0;
}

/* What a tick would look at, but for timers that run later than they did. */
struct outlook {
    raft_term term;
    raft_index commit_index;
    raft_index applied_index;
    uint64_t issued_sequence;
    uint64_t wake_at_ms;
    uint64_t
        doubt_at_ms; /* Who had asked again and again asks sooner, once it has heard a leader. */
    raft_node leader;
    enum raft_role role;
    bool is_quiet;
    bool is_impaired;
    const struct list *latest_snapshot; /* Of those that are being given. */
    bool is_confirming;
};

static struct outlook outlook_of(const struct shard *shard)
{
    return (struct outlook){
        .term = shard->term,
        .commit_index = shard->commit_index,
        .applied_index = shard->applied_index,
        .issued_sequence = shard->issued_sequence,
        .wake_at_ms = shard->raft_wake_at_ms,
        .doubt_at_ms = shard->doubt_at_ms,
        .leader = shard->leader,
        .role = shard->role,
        .is_quiet = shard->is_quiet,
        .is_impaired = shard->is_impaired,
        .latest_snapshot = shard->snapshots.previous,
        .is_confirming = !list_is_empty(&shard->confirming) || !list_is_empty(&shard->unconfirmed),
    };
}

static bool needs_tick(const struct outlook *before, const struct outlook *after)
{
    return after->term != before->term || after->role != before->role ||
           after->leader != before->leader || after->commit_index != before->commit_index ||
           after->applied_index != before->applied_index ||
           after->issued_sequence != before->issued_sequence ||
           after->is_quiet != before->is_quiet || after->is_impaired != before->is_impaired ||
           after->latest_snapshot != before->latest_snapshot || before->is_confirming ||
           after->is_confirming || after->wake_at_ms < before->wake_at_ms ||
           after->doubt_at_ms < before->doubt_at_ms;
}

bool shard_receive_beat(struct shard *shard, raft_node from, const struct raft_message *message)
{
    if (shard->has_failed || shard->raft == NULL || shard->discard != NULL) {
        return false;
    }
    ASSERT(is_beat(message));
    struct outlook before = outlook_of(shard);
    struct raft_message received = *message;
    received.from = from;
    received.to = shard->options.self;
    if (may_be_answered(received.kind)) {
        shard__ask_later(shard);
    }
    shard__step_beat(shard, &received);
    shard__finish_step(shard);
    struct outlook after = outlook_of(shard);
    return needs_tick(&before, &after);
}

void shard_receive(struct shard *shard, raft_node from, struct bytes message)
{
    if (shard->has_failed || shard->raft == NULL || shard->discard != NULL) {
        return;
    }
    enum shard_message_kind kind = SHARD_MESSAGE_RAFT;
    int status = shard__message_kind(message, &kind);
    if (status == 0) {
        switch (kind) {
        case SHARD_MESSAGE_RAFT:
            status = receive_raft(shard, from, message);
            break;
        case SHARD_MESSAGE_SNAPSHOT_PIECE:
            shard__ask_later(shard);
            status = shard__install_receive(shard, from, message);
            break;
        case SHARD_MESSAGE_SNAPSHOT_REPLY:
            status = shard__snapshot_receive(shard, from, message);
            break;
        case SHARD_MESSAGE_NARROW:
        case SHARD_MESSAGE_QUESTION:
            status = shard__ask_receive(shard, from, kind, message);
            break;
        case SHARD_MESSAGE_MEMBERSHIP:
            status = shard__discard_receive(shard, from, message);
            break;
        case SHARD_MESSAGE_FLOORS:
            status = shard__floor_receive(shard, message);
            break;
        }
    }
    if (status != 0) {
        malformed(shard, from, status);
    }
    shard__finish_step(shard);
}
