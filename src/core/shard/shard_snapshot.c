/* SPDX-License-Identifier: Apache-2.0 */
/* Giving a snapshot to a replica that needs entries which the log no longer has.
 *
 * A snapshot is the store's own: its meta row says which entries it contains, so nothing has to
 * stop for it. A worker reads a piece of rows, the piece is sent, and the next one is read when the
 * receiver has written it. A piece that is not answered is sent again: a broken connection costs
 * a piece and not the snapshot. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    PIECE_SIZE_BYTES = 512 << 10,
    RESEND_INTERVAL_MS = 200,
    SEND_COUNT_MAX = 50, /* Of one piece, without an answer. */
    BUSY_RETRY_MS = 5,
    GONE_MS = RESEND_INTERVAL_MS * SEND_COUNT_MAX, /* Nobody waits longer for a member. */
};

struct shard_snapshot {
    struct shard_work work;
    struct list link; /* In shard->snapshots. */
    struct shard *shard;
    raft_node to;
    uint64_t id;
    struct env_store_snapshot *store_snapshot;
    raft_index index;
    raft_index stored_index; /* It has at least this. */
    bool is_working;
    bool is_waiting_for_worker;
    bool is_cancelled;

    struct shard_piece piece; /* Its bytes are in `content`. */
    struct buffer content;    /* Meta row and rows. */
    struct buffer position;   /* The last row of the piece. */
    struct buffer lower;      /* Of the rows of the range as it was then, */
    struct buffer upper;      /* and behind them. */
    int status;
    uint32_t send_count; /* Of the piece. */
    uint64_t wake_at_ms;
};

/* ---- On a worker: read a piece --------------------------------------------------------------- */

static void append_row(struct shard_snapshot *snapshot, struct bytes key, struct bytes value)
{
    uint8_t *head = buffer_extend(&snapshot->content, SHARD_ROW_HEADER_SIZE_BYTES);
    endian_put_u32_le(head, (uint32_t)key.size_bytes);
    endian_put_u32_le(head + 4, (uint32_t)value.size_bytes);
    buffer_append(&snapshot->content, key);
    buffer_append(&snapshot->content, value);
    snapshot->piece.row_count++;
    buffer_clear(&snapshot->position);
    buffer_append(&snapshot->position, key);
}

/* A planted bug: what memory has applied, over rows of the store, which may be older. */
static void take_meta_of_memory(struct shard_snapshot *snapshot, struct shard_meta *meta)
{
    const struct shard *shard = snapshot->shard;
    meta->index = shard->applied_index;
    meta->term = shard->applied_term;
    meta->digest = shard->digest;
    struct buffer encoded = {0};
    shard__meta_encode(meta, &encoded);
    buffer_clear(&snapshot->content);
    buffer_append(&snapshot->content, buffer_bytes(&encoded));
    buffer_deinit(&encoded);
}

static int read_meta(struct shard_snapshot *snapshot)
{
    const struct shard *shard = snapshot->shard;
    const struct env_store *store = &shard->options.store;
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    int status = store->ops->get(store->context, snapshot->store_snapshot, ENV_TIER_DISK,
                                 shard__meta_key(shard->options.id, key), &snapshot->content);
    if (status != 0) {
        return status;
    }
    struct shard_meta meta;
    status = shard__meta_decode(buffer_bytes(&snapshot->content), &meta);
    if (status == 0) {
        snapshot->index = meta.index;
        struct slots_range range = shard__meta_range(shard, &meta);
        buffer_clear(&snapshot->lower);
        buffer_clear(&snapshot->upper);
        shard__bounds_of(shard, &range, &snapshot->lower, &snapshot->upper);
    }
    if (status == 0 && BUG("shard.snapshot_meta_ahead_of_rows")) {
        take_meta_of_memory(snapshot, &meta);
    }
    return status;
}

/* Move behind the last row of the piece before. */
static int seek(const struct env_store *store, struct env_iterator *iterator,
                const struct shard_snapshot *snapshot)
{
    struct bytes position = buffer_bytes(&snapshot->position);
    if (position.size_bytes == 0) {
        return store->ops->iterator_seek(store->context, iterator, buffer_bytes(&snapshot->lower));
    }
    int status = store->ops->iterator_seek(store->context, iterator, position);
    if (status == 0 && bytes_equal(store->ops->iterator_key(store->context, iterator), position)) {
        status = store->ops->iterator_next(store->context, iterator);
    }
    return status;
}

static int read_rows(struct shard_snapshot *snapshot)
{
    const struct env_store *store = &snapshot->shard->options.store;
    uint32_t wished = snapshot->shard->options.piece_size_bytes;
    uint32_t piece_size = wished != 0 ? wished : PIECE_SIZE_BYTES;
    struct env_iterator *iterator;
    int status = store->ops->iterator_open(store->context, snapshot->store_snapshot, ENV_TIER_DISK,
                                           buffer_bytes(&snapshot->lower),
                                           buffer_bytes(&snapshot->upper), &iterator);
    if (status != 0) {
        return status;
    }
    status = seek(store, iterator, snapshot);
    while (status == 0 && snapshot->content.size_bytes < piece_size) {
        append_row(snapshot, store->ops->iterator_key(store->context, iterator),
                   store->ops->iterator_value(store->context, iterator));
        status = store->ops->iterator_next(store->context, iterator);
    }
    store->ops->iterator_close(store->context, iterator);
    snapshot->piece.is_last = status == -ENOENT;
    return status == -ENOENT ? 0 : status;
}

static void read_piece(struct shard_work *work)
{
    struct shard_snapshot *snapshot = LIST_ITEM(work, struct shard_snapshot, work);
    buffer_clear(&snapshot->content);
    snapshot->piece.row_count = 0;
    snapshot->status = snapshot->piece.number == 0 ? read_meta(snapshot) : 0;
    size_t meta_size = snapshot->content.size_bytes;
    if (snapshot->status == 0) {
        snapshot->status = read_rows(snapshot);
    }
    struct bytes content = buffer_bytes(&snapshot->content);
    snapshot->piece.meta = bytes_make(content.data, meta_size);
    snapshot->piece.rows = bytes_make(content.data + meta_size, content.size_bytes - meta_size);
}

/* ---- On the shard's thread ------------------------------------------------------------------- */

static void destroy(struct shard_snapshot *snapshot)
{
    struct env_store *store = &snapshot->shard->options.store;
    if (snapshot->store_snapshot != NULL) {
        store->ops->snapshot_release(store->context, snapshot->store_snapshot);
    }
    list_remove(&snapshot->link);
    buffer_deinit(&snapshot->content);
    buffer_deinit(&snapshot->position);
    buffer_deinit(&snapshot->lower);
    buffer_deinit(&snapshot->upper);
    memory_free(snapshot);
}

static void end(struct shard_snapshot *snapshot, bool has_failed, raft_index index)
{
    struct shard *shard = snapshot->shard;
    raft_node to = snapshot->to;
    TRACE("shard.snapshot_ended", shard->options.id, to, index, has_failed);
    if (!has_failed) {
        shard->statistics.snapshot_sent_count++;
    }
    destroy(snapshot);
    shard__snapshot_ended(shard, to, index, has_failed);
}

static void send_piece(struct shard_snapshot *snapshot, uint64_t now_ms)
{
    uint8_t header[SHARD_MESSAGE_PIECE_SIZE_BYTES];
    shard__message_encode_piece(&snapshot->piece, header);
    struct bytes pieces[] = {bytes_make(header, sizeof header), snapshot->piece.meta,
                             snapshot->piece.rows};
    struct shard_host *host = &snapshot->shard->options.host;
    snapshot->send_count++;
    snapshot->wake_at_ms = now_ms + RESEND_INTERVAL_MS;
    host->send(host->context, snapshot->shard, snapshot->to, pieces, 3);
}

static void piece_is_read(struct shard_work *work)
{
    struct shard_snapshot *snapshot = LIST_ITEM(work, struct shard_snapshot, work);
    struct shard *shard = snapshot->shard;
    snapshot->is_working = false;
    shard->works_elsewhere--;
    if (snapshot->is_cancelled) {
        destroy(snapshot);
    } else if (snapshot->status != 0) {
        struct error error = {0};
        (void)error_set(&error, snapshot->status, "shard %u: read a snapshot", shard->options.id);
        end(snapshot, true, 0);
        shard__fail(shard, error.code, &error);
    } else {
        send_piece(snapshot, shard__now_ms(shard));
    }
    shard__finish_step(shard);
}

static void start_piece(struct shard_snapshot *snapshot, uint32_t number)
{
    struct shard *shard = snapshot->shard;
    struct shard_host *host = &shard->options.host;
    snapshot->piece.number = number;
    snapshot->send_count = 0;
    snapshot->work.run = read_piece;
    snapshot->work.done = piece_is_read;
    /* The store may have nothing yet, or what it had before a split. */
    bool is_stored = shard->stored_index > 0 && shard->stored_index >= shard->split_index;
    if (snapshot->store_snapshot == NULL && !shard->is_stateless && is_stored) {
        struct env_store *store = &shard->options.store;
        snapshot->store_snapshot = store->ops->snapshot_create(store->context);
        snapshot->stored_index = shard->stored_index;
    }
    snapshot->is_waiting_for_worker = snapshot->store_snapshot == NULL ||
                                      host->work_elsewhere(host->context, &snapshot->work) != 0;
    if (snapshot->is_waiting_for_worker) {
        snapshot->wake_at_ms = shard__now_ms(shard) + BUSY_RETRY_MS;
        return;
    }
    snapshot->is_working = true;
    snapshot->wake_at_ms = UINT64_MAX;
    shard->works_elsewhere++;
}

static struct shard_snapshot *find(const struct shard *shard, raft_node to)
{
    LIST_EACH(member, next, &shard->snapshots)
    {
        struct shard_snapshot *snapshot = LIST_ITEM(member, struct shard_snapshot, link);
        if (snapshot->to == to && !snapshot->is_cancelled) {
            return snapshot;
        }
    }
    return NULL;
}

void shard__snapshot_start(struct shard *shard, raft_node to)
{
    if (find(shard, to) != NULL) {
        return;
    }
    struct shard_snapshot *snapshot = memory_allocate_zeroed(1, sizeof *snapshot);
    snapshot->shard = shard;
    snapshot->to = to;
    snapshot->id = random_next(&shard->random) | 1;
    snapshot->piece.snapshot = snapshot->id;
    list_push_back(&shard->snapshots, &snapshot->link);
    TRACE("shard.snapshot_started", shard->options.id, to, shard->stored_index, 0);
    start_piece(snapshot, 0);
}

int shard__snapshot_receive(struct shard *shard, raft_node from, struct bytes message)
{
    struct shard_snapshot_reply reply;
    int status = shard__message_decode_snapshot_reply(message, &reply);
    if (status != 0) {
        return status;
    }
    struct shard_snapshot *snapshot = find(shard, from);
    if (snapshot == NULL || snapshot->id != reply.snapshot || snapshot->is_working) {
        return 0; /* Of an earlier attempt, or a repetition. */
    }
    switch (reply.state) {
    case SHARD_SNAPSHOT_GOES_ON:
        if (reply.number == snapshot->piece.number + 1 && !snapshot->piece.is_last &&
            !snapshot->is_waiting_for_worker) {
            start_piece(snapshot, reply.number);
        }
        break;
    case SHARD_SNAPSHOT_INSTALLED:
        end(snapshot, false, reply.index);
        break;
    case SHARD_SNAPSHOT_REFUSED:
        end(snapshot, true, 0);
        break;
    }
    return 0;
}

uint64_t shard__snapshot_tick(struct shard *shard, uint64_t now_ms)
{
    uint64_t wake_at_ms = UINT64_MAX;
    LIST_EACH(member, next, &shard->snapshots)
    {
        struct shard_snapshot *snapshot = LIST_ITEM(member, struct shard_snapshot, link);
        if (snapshot->is_working) {
            continue;
        }
        if (now_ms >= snapshot->wake_at_ms) {
            if (snapshot->is_waiting_for_worker) {
                start_piece(snapshot, snapshot->piece.number);
            } else if (snapshot->send_count < SEND_COUNT_MAX) {
                PROBE("shard.snapshot_piece_sent_again");
                send_piece(snapshot, now_ms);
            } else {
                end(snapshot, true, 0);
                continue;
            }
        }
        wake_at_ms = snapshot->wake_at_ms < wake_at_ms ? snapshot->wake_at_ms : wake_at_ms;
    }
    return wake_at_ms;
}

/* Where the member goes on. */
static raft_index needed_by(const struct shard *shard, const struct raft_peer *peer)
{
    const struct shard_snapshot *snapshot = find(shard, peer->node);
    if (snapshot != NULL) {
        return snapshot->store_snapshot != NULL ? snapshot->stored_index : UINT64_MAX;
    }
    bool is_gone = shard__now_ms(shard) >= peer->heard_at_ms + GONE_MS ||
                   (shard->is_quiet && peer->is_silent); /* It will not be heard. */
    if (is_gone || peer->progress == RAFT_PROGRESS_SNAPSHOT) {
        return UINT64_MAX;
    }
    return peer->match_index > 0 ? peer->match_index
                                 : peer->next_index - 1; /* It was given that. */
}

raft_index shard_needed_index(const struct shard *shard)
{
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    raft_index needed_index = UINT64_MAX;
    uint32_t count = shard->raft == NULL ? 0 : raft_get_peers(shard->raft, peers);
    for (uint32_t i = 0; i < count; i++) {
        needed_index = number_min(needed_index, needed_by(shard, &peers[i]));
    }
    return needed_index;
}

/* Only a leader gives snapshots. */
void shard__snapshot_cancel(struct shard *shard)
{
    LIST_EACH(member, next, &shard->snapshots)
    {
        struct shard_snapshot *snapshot = LIST_ITEM(member, struct shard_snapshot, link);
        if (snapshot->is_working) {
            snapshot->is_cancelled = true; /* It comes back. */
        } else {
            destroy(snapshot);
        }
    }
}
