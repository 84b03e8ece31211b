/* SPDX-License-Identifier: Apache-2.0 */
/* Integers are little-endian.
 *
 *   offset  size  meaning
 *        0     1  version of this format, 1
 *        1     1  kind: 1 figures?, 2 figures, 3 transfer?, 4 transfer
 *        2     1  of an answer with figures: how many of the node, n; else 0
 *        3     1  of an answer with figures: how many of each replica, m; else 0
 *        4     4  figures: number of replicas; transfer?: shard; transfer: outcome; else 0
 *        8     8  number of the question
 *       16     4  figures: buckets of reads; transfer?: node; transfer: leader; else 0
 *       20     4  figures: buckets of writes; else 0
 *       24        of an answer with figures:
 *                 n figures (8 each); buckets of reads, then of writes; replicas
 *
 * A bucket   0     4  its place, ascending (base/histogram: 8 for each power of two)
 *            4     4  how often, not 0
 *
 * A replica  0     4  shard, not 0
 *            4     1  flags: 1 it leads, 2 its members are being changed
 *            5     1  number of members, at most 15
 *            6     2  zero
 *            8     8  term
 *           16        m figures (8 each); members
 *
 * A member   0     4  node, not 0
 *            4     1  1: a voter, 0: a learner
 *            5     1  state: 0 ok, 1 it is sent a snapshot, 2 damaged
 *            6     2  zero
 *            8     8  lag in entries
 *           16     8  lag in milliseconds */
#include "core/inquiry/inquiry.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"

enum {
    VERSION = 1,
    HEAD_SIZE_BYTES = 24,
    BUCKET_SIZE_BYTES = 8,
    REPLICA_HEAD_SIZE_BYTES = 16,
    MEMBER_SIZE_BYTES = 24,
    FLAG_IS_LEADER = 1,
    FLAG_IS_CHANGING = 2,
};

/* ---- Writing --------------------------------------------------------------------------------- */

static uint8_t *begin(struct buffer *target, enum inquiry_kind kind, uint64_t number,
                      uint32_t first, uint32_t second)
{
    uint8_t *head = buffer_extend(target, HEAD_SIZE_BYTES);
    memset(head, 0, HEAD_SIZE_BYTES);
    head[0] = VERSION;
    head[1] = (uint8_t)kind;
    endian_put_u32_le(head + 4, first);
    endian_put_u64_le(head + 8, number);
    endian_put_u32_le(head + 16, second);
    return head;
}

void inquiry_encode_figures(struct buffer *target, uint64_t number)
{
    (void)begin(target, INQUIRY_FIGURES, number, 0, 0);
}

void inquiry_encode_transfer(struct buffer *target, uint64_t number, uint32_t shard, raft_node node)
{
    ASSERT(shard != 0);
    ASSERT(node != 0);
    (void)begin(target, INQUIRY_TRANSFER, number, shard, node);
}

void inquiry_encode_transfer_answer(struct buffer *target, uint64_t number,
                                    enum inquiry_outcome outcome, raft_node leader)
{
    ASSERT(outcome < INQUIRY_OUTCOME_COUNT);
    (void)begin(target, INQUIRY_TRANSFER_ANSWER, number, (uint32_t)outcome, leader);
}

static void put_figures(struct buffer *target, const uint64_t *figures, uint32_t count)
{
    uint8_t *place = buffer_extend(target, 8 * (size_t)count);
    for (uint32_t i = 0; i < count; i++) {
        endian_put_u64_le(place + 8 * (size_t)i, figures[i]);
    }
}

/* Returns how many buckets there were. */
static uint32_t put_latencies(struct buffer *target, const struct histogram *histogram)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        uint64_t times = histogram->counts[i];
        if (times > 0) {
            uint8_t *bucket = buffer_extend(target, BUCKET_SIZE_BYTES);
            endian_put_u32_le(bucket, i);
            endian_put_u32_le(bucket + 4, times < UINT32_MAX ? (uint32_t)times : UINT32_MAX);
            count++;
        }
    }
    return count;
}

void inquiry_answer_begin(struct buffer *target, uint64_t number,
                          const uint64_t figures[INQUIRY_FIGURE_COUNT],
                          const struct histogram latencies[INQUIRY_LATENCY_COUNT],
                          uint32_t replica_count)
{
    ASSERT(replica_count <= INQUIRY_REPLICA_COUNT_MAX);
    size_t start = target->size_bytes;
    (void)begin(target, INQUIRY_FIGURES_ANSWER, number, replica_count, 0);
    put_figures(target, figures, INQUIRY_FIGURE_COUNT);
    uint32_t read_count = put_latencies(target, &latencies[INQUIRY_READ]);
    uint32_t write_count = put_latencies(target, &latencies[INQUIRY_WRITE]);
    uint8_t *head = target->data + start; /* The buffer may have moved. */
    head[2] = INQUIRY_FIGURE_COUNT;
    head[3] = INQUIRY_REPLICA_FIGURE_COUNT;
    endian_put_u32_le(head + 16, read_count);
    endian_put_u32_le(head + 20, write_count);
}

void inquiry_answer_add(struct buffer *target, const struct inquiry_replica *replica)
{
    ASSERT(replica->shard != 0);
    ASSERT(replica->member_count <= INQUIRY_MEMBER_COUNT_MAX);
    uint8_t *head = buffer_extend(target, REPLICA_HEAD_SIZE_BYTES);
    endian_put_u32_le(head, replica->shard);
    head[4] = (uint8_t)((replica->is_leader ? FLAG_IS_LEADER : 0) |
                        (replica->is_changing ? FLAG_IS_CHANGING : 0));
    head[5] = (uint8_t)replica->member_count;
    endian_put_u16_le(head + 6, 0);
    endian_put_u64_le(head + 8, replica->term);
    put_figures(target, replica->figures, INQUIRY_REPLICA_FIGURE_COUNT);
    for (uint32_t i = 0; i < replica->member_count; i++) {
        const struct inquiry_member *member = &replica->members[i];
        uint8_t *place = buffer_extend(target, MEMBER_SIZE_BYTES);
        ASSERT(member->node != 0);
        endian_put_u32_le(place, member->node);
        place[4] = member->is_voter ? 1 : 0;
        place[5] = (uint8_t)member->state;
        endian_put_u16_le(place + 6, 0);
        endian_put_u64_le(place + 8, member->lag_entries);
        endian_put_u64_le(place + 16, member->lag_ms);
    }
}

void inquiry_answer_end(struct buffer *answer, uint32_t replica_count)
{
    ASSERT(answer->size_bytes >= HEAD_SIZE_BYTES && answer->data[1] == INQUIRY_FIGURES_ANSWER);
    ASSERT(replica_count <= INQUIRY_REPLICA_COUNT_MAX);
    endian_put_u32_le(answer->data + 4, replica_count);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool is_member_valid(const uint8_t *member)
{
    return endian_get_u32_le(member) != 0 && member[4] <= 1 &&
           member[5] < INQUIRY_MEMBER_STATE_COUNT && endian_get_u16_le(member + 6) == 0;
}

static size_t replica_size(const uint8_t *replica, uint32_t figure_count)
{
    return REPLICA_HEAD_SIZE_BYTES + 8 * (size_t)figure_count +
           MEMBER_SIZE_BYTES * (size_t)replica[5];
}

static bool is_replica_valid(struct bytes source, uint32_t figure_count)
{
    const uint8_t *replica = source.data;
    if (source.size_bytes < REPLICA_HEAD_SIZE_BYTES || replica[5] > INQUIRY_MEMBER_COUNT_MAX ||
        source.size_bytes < replica_size(replica, figure_count)) {
        return false;
    }
    const uint8_t *members = replica + REPLICA_HEAD_SIZE_BYTES + 8 * (size_t)figure_count;
    for (uint32_t i = 0; i < replica[5]; i++) {
        if (!is_member_valid(members + MEMBER_SIZE_BYTES * (size_t)i)) {
            return false;
        }
    }
    return endian_get_u32_le(replica) != 0 && replica[4] <= (FLAG_IS_LEADER | FLAG_IS_CHANGING) &&
           endian_get_u16_le(replica + 6) == 0;
}

static bool are_latencies_valid(struct bytes buckets)
{
    uint32_t least = 0;
    for (size_t i = 0; i < buckets.size_bytes; i += BUCKET_SIZE_BYTES) {
        uint32_t place = endian_get_u32_le(buckets.data + i);
        if (place < least || place >= HISTOGRAM_BUCKET_COUNT ||
            endian_get_u32_le(buckets.data + i + 4) == 0) {
            return false;
        }
        least = place + 1;
    }
    return true;
}

/* Cut so many bytes off; false: there are fewer. */
static bool take(struct bytes *rest, size_t size, struct bytes *part)
{
    if (rest->size_bytes < size) {
        return false;
    }
    *part = bytes_make(rest->data, size);
    *rest = bytes_make(rest->data + size, rest->size_bytes - size);
    return true;
}

static void get_figures(const uint8_t *source, uint32_t sent_count, uint64_t *figures,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        figures[i] = i < sent_count ? endian_get_u64_le(source + 8 * (size_t)i) : INQUIRY_UNKNOWN;
    }
}

static bool decode_answer(const uint8_t *head, struct bytes rest, struct inquiry_message *message)
{
    struct bytes figures;
    message->replica_count = endian_get_u32_le(head + 4);
    message->replica_figure_count = head[3];
    bool is_whole = message->replica_count <= INQUIRY_REPLICA_COUNT_MAX &&
                    take(&rest, 8 * (size_t)head[2], &figures);
    for (uint32_t i = 0; i < INQUIRY_LATENCY_COUNT && is_whole; i++) {
        uint32_t count = endian_get_u32_le(head + 16 + 4 * (size_t)i);
        is_whole = count <= HISTOGRAM_BUCKET_COUNT &&
                   take(&rest, BUCKET_SIZE_BYTES * (size_t)count, &message->latencies[i]) &&
                   are_latencies_valid(message->latencies[i]);
    }
    if (!is_whole) {
        return false;
    }
    get_figures(figures.data, head[2], message->figures, INQUIRY_FIGURE_COUNT);
    message->replicas = rest;
    for (uint32_t i = 0; i < message->replica_count; i++) {
        struct bytes replica;
        if (!is_replica_valid(rest, head[3]) ||
            !take(&rest, replica_size(rest.data, head[3]), &replica)) {
            return false;
        }
    }
    return rest.size_bytes == 0;
}

static bool decode_small(const uint8_t *head, struct bytes rest, struct inquiry_message *message)
{
    uint32_t first = endian_get_u32_le(head + 4);
    uint32_t second = endian_get_u32_le(head + 16);
    if (rest.size_bytes != 0 || endian_get_u16_le(head + 2) != 0 ||
        endian_get_u32_le(head + 20) != 0) {
        return false;
    }
    switch (message->kind) {
    case INQUIRY_FIGURES:
        return first == 0 && second == 0;
    case INQUIRY_TRANSFER:
        message->shard = first;
        message->node = second;
        return first != 0 && second != 0;
    case INQUIRY_TRANSFER_ANSWER:
        message->outcome = (enum inquiry_outcome)first;
        message->leader = second;
        return first < INQUIRY_OUTCOME_COUNT;
    case INQUIRY_FIGURES_ANSWER:
        break;
    }
    return false;
}

int inquiry_message_decode(struct bytes source, struct inquiry_message *message)
{
    const uint8_t *head = source.data;
    if (source.size_bytes < HEAD_SIZE_BYTES || head[0] != VERSION) {
        return ERROR_PROTOCOL;
    }
    struct inquiry_message decoded = {.kind = (enum inquiry_kind)head[1],
                                      .number = endian_get_u64_le(head + 8)};
    struct bytes rest = bytes_make(head + HEAD_SIZE_BYTES, source.size_bytes - HEAD_SIZE_BYTES);
    bool is_valid = head[1] == INQUIRY_FIGURES_ANSWER ? decode_answer(head, rest, &decoded)
                                                      : decode_small(head, rest, &decoded);
    if (!is_valid) {
        return ERROR_PROTOCOL;
    }
    *message = decoded;
    return 0;
}

void inquiry_add_latencies(const struct inquiry_message *message, enum inquiry_latency kind,
                           struct histogram *target)
{
    struct bytes buckets = message->latencies[kind];
    for (size_t i = 0; i < buckets.size_bytes; i += BUCKET_SIZE_BYTES) {
        uint64_t bound = histogram_bucket_bound(endian_get_u32_le(buckets.data + i));
        histogram_record_many(target, bound, endian_get_u32_le(buckets.data + i + 4));
    }
}

void inquiry_message_next(struct inquiry_message *message, struct inquiry_replica *replica)
{
    const uint8_t *place = message->replicas.data;
    uint32_t figure_count = message->replica_figure_count;
    size_t size = replica_size(place, figure_count);
    *replica = (struct inquiry_replica){
        .shard = endian_get_u32_le(place),
        .is_leader = (place[4] & FLAG_IS_LEADER) != 0,
        .is_changing = (place[4] & FLAG_IS_CHANGING) != 0,
        .term = endian_get_u64_le(place + 8),
        .member_count = place[5],
    };
    get_figures(place + REPLICA_HEAD_SIZE_BYTES, figure_count, replica->figures,
                INQUIRY_REPLICA_FIGURE_COUNT);
    const uint8_t *member = place + REPLICA_HEAD_SIZE_BYTES + 8 * (size_t)figure_count;
    for (uint32_t i = 0; i < replica->member_count; i++, member += MEMBER_SIZE_BYTES) {
        replica->members[i] = (struct inquiry_member){
            .node = endian_get_u32_le(member),
            .is_voter = member[4] == 1,
            .state = (enum inquiry_member_state)member[5],
            .lag_entries = endian_get_u64_le(member + 8),
            .lag_ms = endian_get_u64_le(member + 16),
        };
    }
    message->replicas = bytes_make(place + size, message->replicas.size_bytes - size);
}
