/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a snapshot: this replica's rows are replaced by those of another.
 *
 * A replica that is being brought up to date still counts: it has acknowledged entries, and may have
 * to vote for them. So what it has stays until what replaces it is durable.
 *
 *   staging    the rows of the pieces go beside the real ones, at 0x01 'I', shard, key
 *   marked     the last piece brings the meta row of the snapshot, at 0x01 'J', shard; once the store
 *              has flushed it, the replica is at the snapshot's index, whatever happens: its log
 *              begins anew there
 *   switching  the real rows go, the staged ones are copied to their place, and at last, with one
 *              batch, the meta row to its own, and staged rows and mark go
 *
 * Real rows are those of the range that the store has. A batch with a split that was written, but could not be
 * flushed, may have made that smaller: switching waits until it is, or the rows of the child would go.
 *
 * A crash before the mark is durable leaves the replica as it was; after it, switching begins once
 * more at the next start. While it lasts nothing is read or applied, but the replica votes,
 * acknowledges and gathers entries. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    BUSY_RETRY_MS = 5,
    ABANDON_MS = 3000, /* Without a piece for so long, what was staged is given up. */
    COPY_SIZE_BYTES = 512 << 10,
    COPY_ROW_COUNT_MAX = 4096,
    PREFIX_SIZE_BYTES = SHARD_INSTALL_KEY_SIZE_BYTES,
};

enum install_stage { INSTALL_STAGING, INSTALL_MARKED, INSTALL_SWITCHING };

struct shard_install {
    struct shard_work work;
    struct shard *shard;
    enum install_stage stage;
    raft_node from;
    uint64_t id;
    uint32_t number; /* Of the piece that is wanted, or being written. */
    bool is_working;
    bool is_waiting_for_worker;
    uint64_t heard_at_ms;
    struct buffer message; /* The piece that is being written. */
    struct buffer meta;    /* The snapshot's meta row. */

    uint8_t prefix[PREFIX_SIZE_BYTES];     /* Of staged rows; */
    uint8_t prefix_end[PREFIX_SIZE_BYTES]; /* and of the first key behind them. */
    uint8_t mark_key[PREFIX_SIZE_BYTES];
    struct buffer lower; /* Of the rows that go, */
    struct buffer upper; /* and behind them. */
    struct buffer keys;  /* Of the batch. */
    struct buffer rows;  /* Copies of staged rows. */
    struct env_change *changes;
    uint32_t change_count;
    uint32_t change_capacity;
    struct buffer position; /* The last staged row that was copied. */
    bool is_over;           /* All of them were. */
    struct error error;
    int status;
};

/* ---- On a worker ----------------------------------------------------------------------------- */

static void add_change(struct shard_install *install, enum env_change_kind kind, struct bytes key,
                       struct bytes value)
{
    if (install->change_count == install->change_capacity) {
        install->change_capacity = 2 * install->change_capacity + 16;
        install->changes =
            memory_resize(install->changes, install->change_capacity * sizeof install->changes[0]);
    }
    install->changes[install->change_count++] = (struct env_change){kind, key, value};
}

static void drop_staged(struct shard_install *install)
{
    add_change(install, ENV_CHANGE_DELETE_RANGE, bytes_make(install->prefix, PREFIX_SIZE_BYTES),
               bytes_make(install->prefix_end, PREFIX_SIZE_BYTES));
}

static void write_changes(struct shard_install *install)
{
    const struct env_store *store = &install->shard->options.store;
    install->error = (struct error){0};
    install->status = 0;
    if (install->change_count > 0) {
        install->status = store->ops->write(store->context, install->changes, install->change_count,
                                            &install->error);
    }
}

static void stage_rows(struct shard_install *install, const struct shard_piece *piece)
{
    struct bytes rows = piece->rows;
    buffer_clear(&install->keys);
    /* Keys are borrowed until the write, so the buffer must not move. */
    buffer_reserve(&install->keys, rows.size_bytes + (size_t)piece->row_count * PREFIX_SIZE_BYTES);
    for (uint32_t i = 0; i < piece->row_count; i++) {
        struct bytes key;
        struct bytes value;
        shard__piece_next_row(&rows, &key, &value);
        uint8_t *place = buffer_extend(&install->keys, PREFIX_SIZE_BYTES + key.size_bytes);
        memcpy(place, install->prefix, PREFIX_SIZE_BYTES);
        memcpy(place + PREFIX_SIZE_BYTES, key.data, key.size_bytes);
        add_change(install, ENV_CHANGE_PUT, bytes_make(place, PREFIX_SIZE_BYTES + key.size_bytes),
                   value);
    }
}

static void drop_mark(struct shard_install *install)
{
    add_change(install, ENV_CHANGE_DELETE, bytes_make(install->mark_key, PREFIX_SIZE_BYTES),
               (struct bytes){0});
}

/* The disk was too full for the flush, but the mark is written, and would be durable with the next one, when the
 * replica may claim less than the snapshot has. Whatever is flushed later is flushed with this. */
static void take_back(struct shard_install *install)
{
    install->change_count = 0;
    drop_staged(install);
    drop_mark(install);
    write_changes(install);
    install->status = install->status == 0 ? -ENOSPC : -EBUSY; /* -EBUSY: all of it again. */
}

static void run_staging(struct shard_install *install)
{
    const struct env_store *store = &install->shard->options.store;
    struct shard_piece piece;
    int status = shard__message_decode_piece(buffer_bytes(&install->message), &piece);
    ASSERT(status == 0); /* It was looked at when it came. */
    install->change_count = 0;
    if (piece.number == 0) {
        drop_staged(install);
        /* One that was given up may have left its mark, which would vouch for these rows. */
        drop_mark(install);
    }
    stage_rows(install, &piece);
    if (piece.is_last) {
        add_change(install, ENV_CHANGE_PUT, bytes_make(install->mark_key, PREFIX_SIZE_BYTES),
                   buffer_bytes(&install->meta));
    }
    write_changes(install);
    if (install->status == 0 && piece.is_last && !BUG("shard.mark_not_flushed")) {
        install->status = store->ops->flush(store->context, &install->error);
        if (install->status == -ENOSPC) {
            take_back(install);
        }
    }
}

/* Gather staged rows behind the position; their bytes are copied into `rows`. */
static int gather_staged(struct shard_install *install, struct env_iterator *iterator)
{
    const struct env_store *store = &install->shard->options.store;
    struct bytes position = buffer_bytes(&install->position);
    int status = store->ops->iterator_seek(store->context, iterator, position);
    if (status == 0 && bytes_equal(store->ops->iterator_key(store->context, iterator), position)) {
        status = store->ops->iterator_next(store->context, iterator);
    }
    uint32_t count = 0;
    while (status == 0 && count < COPY_ROW_COUNT_MAX &&
           install->rows.size_bytes < COPY_SIZE_BYTES) {
        struct bytes key = store->ops->iterator_key(store->context, iterator);
        struct bytes value = store->ops->iterator_value(store->context, iterator);
        uint8_t *head = buffer_extend(&install->rows, SHARD_ROW_HEADER_SIZE_BYTES);
        endian_put_u32_le(head, (uint32_t)(key.size_bytes - PREFIX_SIZE_BYTES));
        endian_put_u32_le(head + 4, (uint32_t)value.size_bytes);
        buffer_append(&install->rows,
                      bytes_make(key.data + PREFIX_SIZE_BYTES, key.size_bytes - PREFIX_SIZE_BYTES));
        buffer_append(&install->rows, value);
        buffer_clear(&install->position);
        buffer_append(&install->position, key);
        count++;
        status = store->ops->iterator_next(store->context, iterator);
    }
    install->is_over = status == -ENOENT;
    return status == -ENOENT ? 0 : status;
}

static int read_staged(struct shard_install *install)
{
    const struct env_store *store = &install->shard->options.store;
    struct env_iterator *iterator;
    buffer_clear(&install->rows);
    int status = store->ops->iterator_open(
        store->context, NULL, ENV_TIER_DISK, bytes_make(install->prefix, PREFIX_SIZE_BYTES),
        bytes_make(install->prefix_end, PREFIX_SIZE_BYTES), &iterator);
    if (status == 0) {
        status = gather_staged(install, iterator);
        store->ops->iterator_close(store->context, iterator);
    }
    return status;
}

static void run_switching(struct shard_install *install)
{
    uint8_t meta_key[SHARD_META_KEY_SIZE_BYTES];
    bool is_first = install->position.size_bytes == PREFIX_SIZE_BYTES;
    size_t position_before = install->position.size_bytes;
    struct buffer before = {0};
    buffer_append(&before, buffer_bytes(&install->position));
    install->change_count = 0;
    install->status = read_staged(install);
    if (install->status == 0) {
        if (is_first) {
            add_change(install, ENV_CHANGE_DELETE_RANGE, buffer_bytes(&install->lower),
                       buffer_bytes(&install->upper));
        }
        struct bytes rows = buffer_bytes(&install->rows);
        while (rows.size_bytes > 0) {
            struct bytes key;
            struct bytes value;
            shard__piece_next_row(&rows, &key, &value);
            add_change(install, ENV_CHANGE_PUT, key, value);
        }
        if (install->is_over) {
            add_change(install, ENV_CHANGE_PUT,
                       shard__meta_key(install->shard->options.id, meta_key),
                       buffer_bytes(&install->meta));
            add_change(install, ENV_CHANGE_DELETE, bytes_make(install->mark_key, PREFIX_SIZE_BYTES),
                       BYTES(""));
            drop_staged(install);
        }
        write_changes(install);
    }
    if (install->status != 0) {
        buffer_clear(&install->position); /* The same again. */
        buffer_append(&install->position, buffer_bytes(&before));
        ASSERT(install->position.size_bytes == position_before);
    }
    buffer_deinit(&before);
}

static void run_work(struct shard_work *work)
{
    struct shard_install *install = LIST_ITEM(work, struct shard_install, work);
    switch (install->stage) {
    case INSTALL_STAGING:
        run_staging(install);
        return;
    case INSTALL_SWITCHING:
        run_switching(install);
        return;
    case INSTALL_MARKED:
        break;
    }
    ASSERT(false);
}

/* ---- On the shard's thread ------------------------------------------------------------------- */

static void reply(struct shard *shard, raft_node to, uint64_t id, uint32_t number,
                  enum shard_snapshot_state state)
{
    uint8_t bytes[SHARD_MESSAGE_SNAPSHOT_REPLY_SIZE_BYTES];
    struct shard_snapshot_reply made = {id, number, state, shard->applied_index};
    shard__message_encode_snapshot_reply(&made, bytes);
    struct bytes piece = bytes_make(bytes, sizeof bytes);
    struct shard_host *host = &shard->options.host;
    host->send(host->context, shard, to, &piece, 1);
}

void shard__install_keys(wal_shard id, uint8_t keys[3][SHARD_INSTALL_KEY_SIZE_BYTES],
                         struct bytes staged[3])
{
    for (uint32_t i = 0; i < 3; i++) {
        keys[i][0] = 0x01;
        keys[i][1] = i < 2 ? 'I' : 'J';
        endian_put_u32_be(keys[i] + 2, i == 1 ? id + 1 : id);
        staged[i] = bytes_make(keys[i], SHARD_INSTALL_KEY_SIZE_BYTES);
    }
}

static struct shard_install *create(struct shard *shard, struct bytes meta)
{
    struct shard_install *install = memory_allocate_zeroed(1, sizeof *install);
    install->shard = shard;
    buffer_append(&install->meta, meta);
    uint8_t keys[3][SHARD_INSTALL_KEY_SIZE_BYTES];
    struct bytes staged[3];
    shard__install_keys(shard->options.id, keys, staged);
    memcpy(install->prefix, keys[0], PREFIX_SIZE_BYTES);
    memcpy(install->prefix_end, keys[1], PREFIX_SIZE_BYTES);
    memcpy(install->mark_key, keys[2], PREFIX_SIZE_BYTES);
    return install;
}

static void destroy(struct shard_install *install)
{
    buffer_deinit(&install->message);
    buffer_deinit(&install->meta);
    buffer_deinit(&install->keys);
    buffer_deinit(&install->rows);
    buffer_deinit(&install->position);
    buffer_deinit(&install->lower);
    buffer_deinit(&install->upper);
    memory_free(install->changes);
    memory_free(install);
}

static void work_is_done(struct shard_work *work);

static void start_work(struct shard_install *install)
{
    struct shard *shard = install->shard;
    struct shard_host *host = &shard->options.host;
    install->work.run = run_work;
    install->work.done = work_is_done;
    install->is_waiting_for_worker = host->work_elsewhere(host->context, &install->work) != 0;
    if (!install->is_waiting_for_worker) {
        install->is_working = true;
        shard->works_elsewhere++;
    }
}

static void give_up(struct shard *shard)
{
    PROBE("shard.install_given_up");
    destroy(shard->install);
    shard->install = NULL;
}

/* All is in its place: go on from it. */
static void finish(struct shard *shard)
{
    struct error error = {0};
    struct shard_install *install = shard->install;
    shard->install = NULL;
    shard->is_stateless = false;
    shard->rows = rows_create(shard->options.store, shard->options.cache_size_bytes);
    bool is_impaired = shard->is_impaired;
    int status = shard__meta_load(shard, &error);
    if (status != 0) {
        shard__fail(shard, status, &error);
    }
    shard->is_flag_stale = shard->is_impaired && !is_impaired;
    shard->is_impaired = is_impaired;
    shard->proof.is_written = !shard->is_flag_stale; /* What is in place is durable. */
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    if (!BUG("shard.window_kept_over_snapshot")) {
        shard__window_reset(shard->window, shard->applied_index);
    }
    shard->stamp_ms =
        shard->applied_stamp_ms > shard->stamp_ms ? shard->applied_stamp_ms : shard->stamp_ms;
    shard->stored_index = shard->applied_index;
    shard->handed_index = shard->applied_index;
    shard->stored_stamp_ms = shard->applied_stamp_ms;
    shard->statistics.snapshot_installed_count++;
    TRACE("shard.snapshot_installed", shard->options.id, install->from, shard->applied_index,
          shard->digest);
    destroy(install);
}

/* The mark is durable: from now on this replica is at the snapshot's index. */
static void mark(struct shard *shard, struct shard_install *install)
{
    struct shard_meta meta;
    int status = shard__meta_decode(buffer_bytes(&install->meta), &meta);
    ASSERT(status == 0);
    if (shard->role == RAFT_ROLE_LEADER || meta.index <= shard->commit_index) {
        PROBE("shard.install_overtaken");
        give_up(shard); /* The mark stays: it tells of nothing that is not so. */
        return;
    }
    install->stage = INSTALL_MARKED;
    if (shard->stored_index == 0 && shard->handed_index == 0) {
        shard->stored_range = shard__meta_range(shard, &meta);
    }
    shard__adopt(shard, &meta);
    reply(shard, install->from, install->id, install->number, SHARD_SNAPSHOT_INSTALLED);
}

static void piece_is_staged(struct shard *shard, struct shard_install *install)
{
    struct shard_piece piece;
    int status = shard__message_decode_piece(buffer_bytes(&install->message), &piece);
    ASSERT(status == 0);
    install->number++;
    install->heard_at_ms = shard__now_ms(shard);
    if (piece.is_last) {
        mark(shard, install);
    } else {
        reply(shard, install->from, install->id, install->number, SHARD_SNAPSHOT_GOES_ON);
    }
}

static void work_is_done(struct shard_work *work)
{
    struct shard_install *install = LIST_ITEM(work, struct shard_install, work);
    struct shard *shard = install->shard;
    install->is_working = false;
    shard->works_elsewhere--;
    if (install->status == -EBUSY) {
        install->is_waiting_for_worker = true; /* The store stalls: the same again, later. */
    } else if (install->status == -ENOSPC && install->stage == INSTALL_STAGING) {
        give_up(shard);
    } else if (install->status != 0) {
        shard__fail(shard, install->status, &install->error);
    } else if (install->stage == INSTALL_STAGING) {
        piece_is_staged(shard, install);
    } else if (install->is_over) {
        finish(shard);
    } else {
        start_work(install);
    }
    shard__finish_step(shard);
}

/* The first piece: false when it has to come again. */
static bool begin(struct shard *shard, raft_node from, const struct shard_piece *piece)
{
    struct shard_meta meta;
    if (shard->role == RAFT_ROLE_LEADER || shard__meta_decode(piece->meta, &meta) != 0) {
        return false;
    }
    if (shard->install != NULL) {
        if (shard->install->is_working || shard->install->stage != INSTALL_STAGING) {
            return false;
        }
        give_up(shard); /* A newer attempt, or another leader's. */
    }
    shard->install = create(shard, piece->meta);
    shard->install->from = from;
    shard->install->id = piece->snapshot;
    if (shard->is_impaired) {
        shard__meta_set_impaired(&shard->install->meta);
    }
    return true;
}

/* The snapshot has nothing that this replica has not. */
static bool is_old(const struct shard *shard, const struct shard_piece *piece)
{
    struct shard_meta meta;
    return piece->number == 0 && shard__meta_decode(piece->meta, &meta) == 0 &&
           meta.index <= shard->commit_index;
}

/* It has slots that this replica does not claim: it is from before a split. */
static bool is_larger(const struct shard *shard, const struct shard_piece *piece)
{
    struct shard_meta meta;
    if (piece->number != 0 || shard__meta_decode(piece->meta, &meta) != 0) {
        return false;
    }
    struct slots_range range = shard__meta_range(shard, &meta);
    return range.first < shard->range.first || range.end > shard->range.end;
}

int shard__install_receive(struct shard *shard, raft_node from, struct bytes message)
{
    struct shard_piece piece;
    int status = shard__message_decode_piece(message, &piece);
    if (status != 0) {
        return status;
    }
    struct shard_install *install = shard->install;
    bool is_ours = install != NULL && install->id == piece.snapshot && install->from == from;
    if (is_old(shard, &piece) || (is_ours && install->stage != INSTALL_STAGING)) {
        reply(shard, from, piece.snapshot, 0, SHARD_SNAPSHOT_INSTALLED);
        return 0;
    }
    if (is_larger(shard, &piece)) {
        PROBE("shard.snapshot_of_larger_range");
        if (shard->is_narrow || shard->applied_index == 0) { /* Or opened by a later map. */
            shard__ask_narrow(shard, from);
        }
        reply(shard, from, piece.snapshot, 0, SHARD_SNAPSHOT_REFUSED);
        return 0;
    }
    if (!is_ours && piece.number == 0) {
        if (!begin(shard, from, &piece)) {
            return 0; /* It will come again. */
        }
        install = shard->install;
    } else if (!is_ours) {
        reply(shard, from, piece.snapshot, 0, SHARD_SNAPSHOT_REFUSED);
        return 0;
    }
    if (install->is_working || install->is_waiting_for_worker) {
        return 0;
    }
    if (piece.number != install->number) {
        /* The answer to the one before was lost. */
        reply(shard, from, piece.snapshot, install->number, SHARD_SNAPSHOT_GOES_ON);
        return 0;
    }
    install->heard_at_ms = shard__now_ms(shard);
    buffer_clear(&install->message);
    buffer_append(&install->message, message);
    start_work(install);
    return 0;
}

/* The rows that the store has of this replica go. Where it has no state there are none but those of the
 * snapshot, from an earlier attempt: what the replica might have claimed besides may be another's. */
static void begin_switching(struct shard *shard, struct shard_install *install)
{
    buffer_clear(&install->lower);
    buffer_clear(&install->upper);
    shard__bounds_of(shard, &shard->stored_range, &install->lower, &install->upper);
    if (!shard->is_impaired) {
        shard__meta_set_whole(&install->meta); /* It may have been when the first piece came. */
    }
    rows_destroy(shard->rows); /* Its changes are of the state that goes. */
    shard->rows = NULL;
    install->stage = INSTALL_SWITCHING;
    buffer_clear(&install->position);
    buffer_append(&install->position, bytes_make(install->prefix, PREFIX_SIZE_BYTES));
    start_work(install);
}

uint64_t shard__install_tick(struct shard *shard, uint64_t now_ms)
{
    struct shard_install *install = shard->install;
    if (install == NULL || install->is_working) {
        return UINT64_MAX;
    }
    if (install->is_waiting_for_worker) {
        start_work(install);
        return now_ms + BUSY_RETRY_MS;
    }
    if (install->stage == INSTALL_MARKED) {
        if (shard__is_store_busy(shard)) {
            return now_ms + BUSY_RETRY_MS;
        }
        if (shard__is_split_under_way(shard)) {
            PROBE("shard.install_waits_for_split");
            return shard__hand_over_due(shard, now_ms);
        }
        begin_switching(shard, install);
        return now_ms + BUSY_RETRY_MS;
    }
    if (now_ms < install->heard_at_ms + ABANDON_MS) {
        return install->heard_at_ms + ABANDON_MS;
    }
    give_up(shard);
    return UINT64_MAX;
}

/* At the start: go on with a snapshot whose mark is newer than the state. */
int shard__install_resume(struct shard *shard, struct shard_meta *meta, struct error *error)
{
    const struct env_store *store = &shard->options.store;
    struct buffer row = {0};
    struct shard_install *install = create(shard, BYTES(""));
    int status = store->ops->get(store->context, NULL, ENV_TIER_DISK,
                                 bytes_make(install->mark_key, PREFIX_SIZE_BYTES), &row);
    struct shard_meta marked = {0};
    if (status == 0) {
        status = shard__meta_decode(buffer_bytes(&row), &marked);
    }
    if (status != 0 || marked.index <= meta->index) {
        buffer_deinit(&row);
        destroy(install);
        return status == 0 || status == -ENOENT
                   ? 0
                   : error_set(error, status, "the mark of shard %u", shard->options.id);
    }
    PROBE("shard.install_resumed");
    buffer_append(&install->meta, buffer_bytes(&row));
    buffer_deinit(&row);
    install->stage = INSTALL_MARKED;
    shard->install = install;
    shard->is_stateless = true;
    if (meta->index == 0) {
        shard->stored_range = shard__meta_range(shard, &marked);
    }
    /* The row says that it is impaired before any mark does, and that it is whole once Raft knew: since the
     * snapshot began to come, then. */
    marked.is_impaired = marked.is_impaired && (meta->is_impaired || meta->index == 0);
    *meta = marked;
    meta->saved = BYTES("");
    return 0;
}

struct bytes shard__install_set_impaired(struct shard *shard)
{
    shard__meta_set_impaired(&shard->install->meta);
    return bytes_make(shard->install->mark_key, PREFIX_SIZE_BYTES);
}

void shard__install_deinit(struct shard *shard)
{
    if (shard->install != NULL) {
        ASSERT(!shard->install->is_working);
        destroy(shard->install);
        shard->install = NULL;
    }
}
