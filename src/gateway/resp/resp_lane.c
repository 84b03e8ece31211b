/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes: the order of a connection's commands (I5 of resp.h, decision 19).
 *
 * What a connection has under way at one shard is a *lane*: a session, of which route and shard keep the
 * order. So commands on one key, which are of one shard, take effect in the order sent; those of different
 * lanes in any. Replies come in the order sent all the same, so whoever has one knows that what he sends
 * next comes behind it. Rules:
 *
 *   - All lanes go by one map. Once there is a newer one, nothing goes by it until the lanes are empty: a key
 *     may be of another shard now, and must not be asked there past what its old one has under way.
 *   - A *barrier* (WATCH, EXEC, SCAN) waits until nothing is under way in other lanes, and so does what
 *     follows, until it is answered. What is of several shards waits for everything, and all for it
 *     (resp_spread.c).
 *   - `pipeline-order connection`: every command is a barrier. A pipeline then takes effect in its order,
 *     whatever the shards, at the price of a commit for each change of shard.
 *
 * With one shard all of this is a comparison. A connection has one lane of its own, which takes whichever
 * shard comes while it is empty; the others are the server's, found by connection and shard, and live from
 * the first request to the last answer. There are never more than requests under way. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "gateway/resp/resp_internal.h"

enum { BUCKET_COUNT_MIN = 64, POOLED_LANE_COUNT_MAX = 4096 };

/* ---- The server's lanes ---------------------------------------------------------------------- */

static struct list *bucket_of(const struct lanes *lanes, const struct connection *connection,
                              wal_shard shard)
{
    /* Knuth's multiplicative hash; nobody chooses these numbers to collide. */
    uint64_t key = (connection->id << 16 ^ shard) * 0x9e3779b97f4a7c15ull;
    return &lanes->buckets[(key >> 32) & (lanes->bucket_count - 1)];
}

static void grow(struct lanes *lanes)
{
    struct lanes old = *lanes;
    lanes->bucket_count = old.bucket_count == 0 ? BUCKET_COUNT_MIN : 2 * old.bucket_count;
    lanes->buckets = memory_allocate(lanes->bucket_count * sizeof lanes->buckets[0]);
    for (uint32_t i = 0; i < lanes->bucket_count; i++) {
        list_init(&lanes->buckets[i]);
    }
    for (uint32_t i = 0; i < old.bucket_count; i++) {
        for (struct list *member; (member = list_pop_front(&old.buckets[i])) != NULL;) {
            struct lane *lane = LIST_ITEM(member, struct lane, link);
            list_push_back(bucket_of(lanes, lane->connection, lane->shard), &lane->link);
        }
    }
    memory_free(old.buckets);
}

static struct lane *find(const struct lanes *lanes, const struct connection *connection,
                         wal_shard shard)
{
    if (lanes->bucket_count == 0) {
        return NULL;
    }
    LIST_EACH(member, next, bucket_of(lanes, connection, shard))
    {
        struct lane *lane = LIST_ITEM(member, struct lane, link);
        if (lane->connection == connection && lane->shard == shard) {
            return lane;
        }
    }
    return NULL;
}

static struct lane *take(struct lanes *lanes, struct connection *connection, wal_shard shard)
{
    if (lanes->count == lanes->bucket_count) {
        grow(lanes);
    }
    struct list *member = list_pop_front(&lanes->pooled);
    if (member != NULL) {
        lanes->pooled_count--;
    }
    struct lane *lane =
        member != NULL ? LIST_ITEM(member, struct lane, link) : memory_allocate(sizeof *lane);
    *lane = (struct lane){.connection = connection, .shard = shard};
    list_init(&lane->link);
    shard_session_init(&lane->session);
    list_push_front(bucket_of(lanes, connection, shard), &lane->link);
    lanes->count++;
    return lane;
}

static void give(struct lanes *lanes, struct lane *lane)
{
    list_remove(&lane->link);
    lanes->count--;
    if (lanes->pooled_count == POOLED_LANE_COUNT_MAX) {
        memory_free(lane);
        return;
    }
    list_push_front(&lanes->pooled, &lane->link); /* The warmest first. */
    lanes->pooled_count++;
}

void resp__lanes_init(struct lanes *lanes)
{
    *lanes = (struct lanes){0};
    list_init(&lanes->pooled);
}

void resp__lanes_deinit(struct lanes *lanes)
{
    ASSERT(lanes->count == 0);
    for (struct list *member; (member = list_pop_front(&lanes->pooled)) != NULL;) {
        memory_free(LIST_ITEM(member, struct lane, link));
    }
    memory_free(lanes->buckets);
    *lanes = (struct lanes){0};
}

/* ---- A connection's -------------------------------------------------------------------------- */

void resp__lane_init(struct connection *connection)
{
    connection->lane.connection = connection;
    list_init(&connection->lane.link);
    shard_session_init(&connection->lane.session);
}

/* The lane of the shard, if there is one or the connection's own may become it. */
static struct lane *lane_of(struct connection *connection, wal_shard shard)
{
    struct lane *own = &connection->lane;
    if (own->shard == shard) {
        return own;
    }
    uint32_t other_count = connection->lane_count - (own->under_way_count > 0);
    struct lane *lane =
        other_count > 0 ? find(&connection->server->lanes, connection, shard) : NULL;
    if (lane == NULL && own->under_way_count == 0) {
        own->shard = shard;
        lane = own;
    }
    return lane;
}

static bool is_barrier(const struct connection *connection, const struct submission *submission)
{
    return submission->is_barrier || connection->is_barred ||
           resp__is_connection_ordered(connection->server);
}

enum handled resp__lane_enter(struct connection *connection, const struct submission *submission,
                              struct lane **entered)
{
    if (connection->lane_count == 0) {
        connection->is_barred = false;
        connection->map_version = resp__map_version(submission->slots);
    } else if (connection->map_version != resp__map_version(submission->slots)) {
        PROBE("resp.waits_for_older_map");
        return HANDLED_AFTER;
    }
    if (connection->has_moved && resp__is_refused(connection)) {
        return HANDLED_LATER;
    }
    struct lane *lane = lane_of(connection, submission->range.shard);
    uint32_t other_count =
        connection->lane_count - (lane != NULL && lane->under_way_count > 0 ? 1 : 0);
    if (other_count > 0 && is_barrier(connection, submission)) {
        return HANDLED_AFTER;
    }
    if (lane == NULL) {
        lane = take(&connection->server->lanes, connection, submission->range.shard);
    }
    ASSERT(lane->connection == connection && lane->shard == submission->range.shard);
    connection->lane_count += lane->under_way_count == 0;
    lane->under_way_count++;
    *entered = lane;
    return HANDLED_DONE;
}

void resp__lane_leave(struct lane *lane)
{
    struct connection *connection = lane->connection;
    ASSERT(lane->under_way_count > 0 && connection->lane_count > 0);
    if (--lane->under_way_count > 0) {
        return;
    }
    connection->lane_count--;
    if (lane != &connection->lane) {
        give(&connection->server->lanes, lane);
    }
}
