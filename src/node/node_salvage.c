/* SPDX-License-Identifier: Apache-2.0 */
/* The shards are opened as a start opens them, so all that a start checks and repairs is checked
 * and repaired; but nobody campaigns, because the node is not alone yet. Then two records for each
 * shard go to its log: a term above all that it knows, and an entry of that term with the node as
 * the only member. The next start finds that it is alone. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

/* Nothing is applied, so caches hardly matter. */
#define MEMORY_SIZE_BYTES (256ull << 20)
#define STORE_CACHE_SIZE_BYTES (32ull << 20)

enum { TIME_LOOK_BACK_COUNT = 64, TEXT_SIZE = 256 };

struct node_salvage {
    struct node_data *data;
    struct store *store;
    struct node_options options;
    struct node_shards shards;
    bool is_open; /* The shards are. */
    raft_node others[NODE_PEER_COUNT_MAX];
    uint32_t other_count;
};

/* ---- What there is --------------------------------------------------------------------------- */

static void add_other(struct node_salvage *salvage, raft_node node)
{
    uint32_t place = 0;
    while (place < salvage->other_count && salvage->others[place] < node) {
        place++;
    }
    bool is_known = place < salvage->other_count && salvage->others[place] == node;
    if (node == salvage->shards.self || is_known || salvage->other_count == NODE_PEER_COUNT_MAX) {
        return;
    }
    memmove(&salvage->others[place + 1], &salvage->others[place],
            (salvage->other_count - place) * sizeof salvage->others[0]);
    salvage->others[place] = node;
    salvage->other_count++;
}

static void list_others(struct node_salvage *salvage)
{
    const struct system *system = salvage->shards.system;
    for (uint32_t i = 0; i < salvage->shards.count; i++) {
        const struct raft_configuration *members =
            shard_configuration(salvage->shards.items[i].shard);
        for (uint32_t j = 0; j < members->voter_count; j++) {
            add_other(salvage, members->voters[j]);
        }
        for (uint32_t j = 0; j < members->outgoing_count; j++) {
            add_other(salvage, members->outgoing[j]);
        }
        for (uint32_t j = 0; j < members->learner_count; j++) {
            add_other(salvage, members->learners[j]);
        }
    }
    for (uint32_t i = 0; i < system_node_count(system); i++) {
        if (system_node_at(system, i)->state != SYSTEM_NODE_REMOVED) {
            add_other(salvage, system_node_at(system, i)->id);
        }
    }
}

static int no_whole_replica(wal_shard id, struct error *error)
{
    return error_say(
        error, -EPERM,
        "this node has no whole replica of shard %" PRIu32
        ", so going on with it alone would lose all of that; use a node that has one of "
        "every shard",
        id);
}

/* Has a replica here the slots still? Then the child is born beside it, when its log comes to the split. */
static bool is_to_be_born(const struct node_salvage *salvage, const struct slots_range *child)
{
    for (uint32_t i = 0; i < salvage->shards.count; i++) {
        struct slots_range claim = shard_range(salvage->shards.items[i].shard);
        if (claim.first <= child->first && child->end <= claim.end) {
            return true;
        }
    }
    return false;
}

/* Has it a replica of every shard that it knows of? */
static int judge_map(struct node_salvage *salvage, struct error *error)
{
    struct slots map = {0};
    int status = 0;
    slots_copy(&map, node_shards_map(&salvage->shards));
    if (!slots_merge(&map, system_slots(salvage->shards.system))) {
        status = error_say(error, ERROR_CORRUPT,
                           "what the directory tells of shards does not fit what the cluster does");
    }
    for (uint32_t i = 0; i < map.range_count && status == 0; i++) {
        if (node_shards_find(&salvage->shards, map.ranges[i].shard) == NULL &&
            !is_to_be_born(salvage, &map.ranges[i])) {
            status = no_whole_replica(map.ranges[i].shard, error);
        }
    }
    slots_deinit(&map);
    return status;
}

static int judge(struct node_salvage *salvage, struct error *error)
{
    bool is_alone = true;
    int status = judge_map(salvage, error);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < salvage->shards.count; i++) {
        const struct node_shard *shard = &salvage->shards.items[i];
        uint32_t id = shard->id;
        if (!raft_configuration_has_voter(shard_configuration(shard->shard), shard->host->self)) {
            return no_whole_replica(id, error);
        }
        if (shard_is_impaired(shard->shard)) {
            return error_say(error, -EPERM,
                             "the replica of shard %" PRIu32
                             " here lost part of its log to damage on the disk; use another node, "
                             "or a copy of this directory",
                             id);
        }
        is_alone &= node_shard_is_alone(shard);
    }
    if (is_alone) {
        return error_say(error, -EPERM,
                         "there is nothing to recover: this node is the only member of every shard "
                         "already; start it");
    }
    return 0;
}

static int open_shards(struct node_salvage *salvage, const char *directory, struct os_log *log,
                       struct error *error)
{
    struct node_shards *shards = &salvage->shards;
    struct store_options store_options = {
        .directory = node_data_store_path(salvage->data),
        .cache_size_bytes = STORE_CACHE_SIZE_BYTES,
        .write_buffer_size_bytes = STORE_WRITE_BUFFER_SIZE_MIN,
    };
    int status = store_open(&salvage->store, &store_options, error);
    if (status != 0) {
        return status;
    }
    salvage->options = (struct node_options){
        .data_directory = directory, .memory_size_bytes = MEMORY_SIZE_BYTES, .log = log};
    status = node_shards_open(shards, salvage->store, &salvage->options, salvage->data, error);
    salvage->is_open = status == 0;
    return status;
}

int node_salvage_open(struct node_salvage **salvage, const char *directory, struct os_log *log,
                      struct error *error)
{
    struct node_salvage *opened = memory_allocate_zeroed(1, sizeof *opened);
    int status = node_data_open(&opened->data, directory, NODE_USE_CHANGE, error);
    if (status == 0) {
        status = open_shards(opened, directory, log, error);
    }
    if (status == 0) {
        list_others(opened);
        status = judge(opened, error);
    }
    if (status != 0) {
        node_salvage_close(opened);
        return status;
    }
    *salvage = opened;
    return 0;
}

void node_salvage_close(struct node_salvage *salvage)
{
    if (salvage->is_open) {
        wal_close(salvage->shards.wal);
        node_shards_close(&salvage->shards);
    }
    if (salvage->store != NULL) {
        store_close(salvage->store);
    }
    if (salvage->data != NULL) {
        node_data_close(salvage->data);
    }
    memory_free(salvage);
}

/* ---- The plan -------------------------------------------------------------------------------- */

/* When its leader made the newest entry that has a time and is still in the log. */
static bool newest_time(const struct node_salvage *salvage, const struct node_shard *shard,
                        raft_index last_index, uint64_t *time_ms)
{
    struct buffer payload = {0};
    bool is_known = false;
    for (uint32_t i = 0; i < TIME_LOOK_BACK_COUNT && i < last_index && !is_known; i++) {
        raft_term term;
        buffer_clear(&payload);
        if (wal_read_head(salvage->shards.wal, shard->id, last_index - i,
                          SHARD_ENTRY_HEAD_SIZE_BYTES, &term, &payload, NULL) != 0) {
            break;
        }
        is_known = shard_entry_time(buffer_bytes(&payload), time_ms);
    }
    buffer_deinit(&payload);
    return is_known;
}

static struct json *plan_shard(const struct node_salvage *salvage, const struct node_shard *shard)
{
    struct json *plan = json_object_create();
    struct shard_statistics statistics;
    uint64_t time_ms = 0;
    char text[TEXT_SIZE];
    shard_get_statistics(shard->shard, &statistics);
    bool is_whole = node_shard_is_alone(shard);
    json_set_unsigned(plan, "id", shard->id);
    json_set_text(plan, "outcome", is_whole ? "whole" : "may_lose");
    json_set_unsigned(plan, "last_index", statistics.last_index);
    if (newest_time(salvage, shard, statistics.last_index, &time_ms)) {
        json_set_unsigned(plan, "newest_ms", time_ms);
    }
    (void)snprintf(text, sizeof text,
                   "goes on from entry %" PRIu64
                   ", the last one known here; what others acknowledged after it is lost",
                   statistics.last_index);
    json_set_text(plan, "text", text);
    return plan;
}

struct json *node_salvage_plan(const struct node_salvage *salvage)
{
    struct json *plan = json_object_create();
    struct json *others = json_array_create();
    struct json *survivors = json_array_create();
    struct json *shards = json_array_create();
    struct json *may_lose = json_array_create();
    for (uint32_t i = 0; i < salvage->other_count; i++) {
        json_append_unsigned(others, salvage->others[i]);
    }
    json_append_unsigned(survivors, salvage->shards.self);
    for (uint32_t i = 0; i < salvage->shards.count; i++) {
        json_append(shards, plan_shard(salvage, &salvage->shards.items[i]));
    }
    json_append_text(may_lose, "every write that the other nodes acknowledged and this one had not "
                               "received: nobody here knows how many there were");
    json_append_text(may_lose, "nothing else; and writes that this one had received and nobody "
                               "acknowledged may now take effect");
    json_set(plan, "lost_nodes", others);
    json_set(plan, "surviving_nodes", survivors);
    json_set(plan, "shards", shards);
    json_set(plan, "may_lose", may_lose);
    return plan;
}

/* ---- Doing it -------------------------------------------------------------------------------- */

/* The next start does what needs a cluster that serves: it refuses the others, marks them as
 * removed, and writes this record. */
static int write_fence(const struct node_salvage *salvage, struct error *error)
{
    struct buffer text = {0};
    struct shard_statistics statistics;
    shard_get_statistics(salvage->shards.items[0].shard, &statistics);
    buffer_append_format(&text, "node %u went on alone, shard 1 from entry %" PRIu64 "; fenced:",
                         salvage->shards.self, statistics.last_index);
    for (uint32_t i = 0; i < salvage->other_count && text.size_bytes < TEXT_SIZE / 2; i++) {
        buffer_append_format(&text, "%s%u", i == 0 ? " " : ", ", salvage->others[i]);
    }
    int status =
        os_file_write(node_data_path(salvage->data, NODE_FILE_FENCE), buffer_bytes(&text), error);
    buffer_deinit(&text);
    return status;
}

/* The payload is borrowed by the log until it is written. */
static void append_records(struct node_salvage *salvage, const struct node_shard *shard,
                           struct buffer *payload)
{
    struct shard_statistics statistics;
    struct raft_configuration alone = {.voter_count = 1, .voters = {salvage->shards.self}};
    shard_get_statistics(shard->shard, &statistics);
    struct wal_record state = {
        .kind = WAL_RECORD_HARD_STATE,
        .shard = shard->id,
        .hard_state = {.term = statistics.term + 1, .vote = salvage->shards.self},
    };
    shard_configuration_payload(&alone, payload);
    struct wal_record entry = {
        .kind = WAL_RECORD_ENTRY,
        .shard = shard->id,
        .index = statistics.last_index + 1,
        .term = statistics.term + 1,
        .payload = buffer_bytes(payload),
    };
    wal_append(salvage->shards.wal, &state);
    wal_append(salvage->shards.wal, &entry);
}

int node_salvage_carry_out(struct node_salvage *salvage, struct error *error)
{
    struct node_shards *shards = &salvage->shards;
    struct buffer *payloads = memory_allocate_zeroed(shards->count, sizeof payloads[0]);
    int status = write_fence(salvage, error); /* First: it counts only for a node that is alone. */
    if (status == 0) {
        status = os_file_write(node_data_path(salvage->data, NODE_FILE_ROSTER), BYTES(""), error);
    }
    if (status ==
        0) { /* It may tell of a split that no log has any more; what is here the store tells. */
        status = os_file_remove(node_data_path(salvage->data, NODE_FILE_MAP), error);
    }
    for (uint32_t i = 0; i < shards->count && status == 0; i++) {
        if (!node_shard_is_alone(&shards->items[i])) {
            append_records(salvage, &shards->items[i], &payloads[i]);
        }
    }
    if (status == 0) {
        status = wal_write(shards->wal, error);
    }
    if (status == 0) {
        status = wal_flush(shards->wal, error);
    }
    for (uint32_t i = 0; i < shards->count; i++) {
        buffer_deinit(&payloads[i]);
    }
    memory_free(payloads);
    return status;
}
