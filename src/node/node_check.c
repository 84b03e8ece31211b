/* SPDX-License-Identifier: Apache-2.0 */
/* `tutti check`: is what a stopped node left on its disk whole? Reads everything, changes nothing.
 *
 *   store   every block's checksum, then every row against the invariants of its service
 *   log     every record, and that it goes on where the store ends */
#include <inttypes.h>
#include <stdio.h>

#include "base/memory/memory.h"
#include "node/node_recovery.h"
#include "service/system/system.h"

struct check {
    struct node_data *data;
    struct store *store;
    struct slots map; /* As the directory has it; then with what the store has. */
    /* Of those that are open, in the order of their numbers. */
    wal_shard ids[SLOTS_SHARD_COUNT_MAX];
    struct kv *kvs[SLOTS_SHARD_COUNT_MAX];
    struct shard *shards[SLOTS_SHARD_COUNT_MAX];
    uint32_t shard_count; /* That are open. */
    struct os_files *files;
    struct wal *wal;
    bool is_repairable; /* The log is damaged, and the other nodes have what it lost. */
    int worst;          /* The first damage found; the rest is looked at all the same. */
};

static void report(struct check *check, const char *part, int status, const struct error *error)
{
    if (status == 0) {
        (void)printf("%-6s ok\n", part);
        return;
    }
    (void)printf("%-6s DAMAGED: %s\n", part, error->message);
    if (check->worst == 0) {
        check->worst = status;
    }
}

static struct shard *find(const struct check *check, wal_shard id)
{
    uint32_t low = 0;
    uint32_t high = check->shard_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (check->ids[middle] < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < check->shard_count && check->ids[low] == id ? check->shards[low] : NULL;
}

static raft_index first_needed(void *context, wal_shard id)
{
    const struct check *check = context;
    const struct shard *shard = find(check, id);
    return shard != NULL ? shard_stored_index(shard) + 1 : 1;
}

static int open_store(struct check *check, struct error *error)
{
    const char *directory = node_data_store_path(check->data);
    int status = store_verify(directory, error);
    if (status != 0) {
        return status;
    }
    struct store_options options = {
        .directory = directory,
        .cache_size_bytes = 64 << 20,
        .write_buffer_size_bytes = STORE_WRITE_BUFFER_SIZE_MIN,
        .is_read_only = true,
    };
    return store_open(&check->store, &options, error);
}

/* A shard is opened for what its meta row says; it is not started, so nothing is written. */
static int open_shard(struct check *check, const struct slots_range *range, struct error *error)
{
    uint32_t place = check->shard_count;
    check->ids[place] = range->shard;
    check->kvs[place] = kv_create_range(range->first, range->end);
    struct shard_options options = {
        .id = range->shard,
        .self = node_data_node_id(check->data),
        .store = store_interface(check->store),
        .cache_size_bytes = 1 << 20,
        .in_flight_size_bytes_max = 1,
        .first_slot = range->first,
        .end_slot = range->end,
        .append_slot_row = node_append_slot_row,
        .machine = kv_machine(check->kvs[place]),
    };
    if (options.self == NODE_FOUNDER &&
        node_place_of(range->shard) < node_data_shard_count(check->data)) {
        /* Alone, until the store says otherwise. */
        options.configuration =
            (struct raft_configuration){.voter_count = 1, .voters = {NODE_FOUNDER}};
    }
    int status = shard_open(&check->shards[place], &options, error);
    if (status != 0) {
        kv_destroy(check->kvs[place]);
        return status;
    }
    check->shard_count++;
    return 0;
}

static int open_children(struct check *check, struct error *error)
{
    struct env_store store = store_interface(check->store);
    wal_shard *ids = memory_allocate(SLOTS_SHARD_COUNT_MAX * sizeof ids[0]);
    uint32_t count = 0;
    int status = shard_list_states(&store, SLOTS_FIRST_SHARD + node_data_shard_count(check->data),
                                   ids, SLOTS_SHARD_COUNT_MAX, &count, error);
    for (uint32_t i = 0; i < count && status == 0; i++) {
        status = node_place_of(ids[i]) < SLOTS_SHARD_COUNT_MAX
                     ? open_shard(check, &(struct slots_range){ids[i], 0, 1}, error)
                     : error_say(error, ERROR_CORRUPT, "there is a shard %" PRIu32, ids[i]);
    }
    memory_free(ids);
    return status;
}

/* Those that the cluster was made with, and those that the store has besides. */
static int open_shards(struct check *check, struct error *error)
{
    struct slots made = {0};
    int status = 0;
    slots_divide(&made, node_data_shard_count(check->data));
    for (uint32_t i = 0; i < made.range_count && status == 0; i++) {
        status = open_shard(check, &made.ranges[i], error);
    }
    slots_deinit(&made);
    if (status == 0) {
        status = open_children(check, error);
    }
    struct slots_range *claims = memory_allocate((check->shard_count + 1) * sizeof claims[0]);
    for (uint32_t i = 0; i < check->shard_count; i++) {
        claims[i] = shard_range(check->shards[i]);
    }
    if (status == 0 && !node_map_amend(&check->map, claims, check->shard_count)) {
        status = error_say(error, ERROR_CORRUPT,
                           "the store has shards that do not fit what the directory tells of them");
    }
    memory_free(claims);
    return status;
}

/* Is the map that the cluster agreed on the one of the directory? */
static int check_map(struct check *check, struct error *error)
{
    struct system *system = system_create();
    struct shard_machine machine = system_machine_over(system, NULL);
    struct rows *rows = rows_create(store_interface(check->store), 1 << 20);
    rows_set_tier(rows, ENV_TIER_DISK);
    int status = machine.load(machine.context, rows, BYTES(""), error);
    const struct slots *agreed = system_slots(system);
    struct slots merged = {0};
    slots_copy(&merged, &check->map);
    if (status == 0 && system_generation(system) != 0 && !slots_merge(&merged, agreed)) {
        status = error_say(error, ERROR_CORRUPT,
                           "the directory tells of %" PRIu32 " shards, the cluster has %" PRIu32
                           ", and they are not of one map",
                           check->map.range_count, agreed->range_count);
    }
    slots_deinit(&merged);
    rows_destroy(rows);
    system_destroy(system);
    return status;
}

/* Has each shard the keys that it counts, in its own slots? */
static int check_counts(const struct check *check, struct error *error)
{
    int status = 0;
    for (uint32_t i = 0; i < check->shard_count && status == 0; i++) {
        status = kv_verify_counts(check->kvs[i], store_interface(check->store), NULL, error);
        if (status != 0 && check->shard_count > 1) {
            return error_wrap(error, status, "shard %" PRIu32, check->ids[i]);
        }
    }
    return status;
}

static int open_rows(struct check *check, struct error *error)
{
    uint64_t key_count = 0;
    int status = open_shards(check, error);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < check->shard_count; i++) {
        struct kv_statistics statistics;
        kv_get_statistics(check->kvs[i], &statistics);
        key_count += statistics.key_count;
        if (check->shard_count > 1) {
            (void)printf("store  shard %u: ", check->ids[i]);
        } else {
            (void)printf("store  ");
        }
        (void)printf("%" PRIu64 " keys, applied up to entry %" PRIu64 "\n", statistics.key_count,
                     shard_stored_index(check->shards[i]));
    }
    status = kv_verify(store_interface(check->store), NULL, key_count, error);
    if (status == 0) {
        status = check_counts(check, error);
    }
    if (status == 0) {
        status = system_verify(store_interface(check->store), NULL, error);
    }
    return status == 0 ? check_map(check, error) : status;
}

/* Not damage of the directory where the others have it: the node repairs itself when it starts. */
static int accept_loss(void *context, const struct wal_loss *loss, struct error *error)
{
    struct check *check = context;
    for (uint32_t i = 0; i < check->map.range_count; i++) {
        wal_shard id = check->map.ranges[i].shard;
        const struct shard *shard = find(check, id);
        bool is_absent = shard == NULL && check->shard_count > 0; /* A child that is not here. */
        bool is_concerned = !is_absent && (loss->is_of_unnamed || loss->shard == id);
        if (is_concerned && (shard == NULL || !shard_is_dispensable(shard))) {
            return error_say(error, ERROR_CORRUPT,
                             "no majority of the replicas is left without it");
        }
    }
    (void)printf("log    damaged: segment %016" PRIu64 ".wal at offset %" PRIu32 ": %s\n",
                 loss->segment, loss->offset, loss->reason);
    check->is_repairable = true;
    return 0;
}

static void found_damage(void *context, const struct wal_damage *damage)
{
    if (!damage->is_needed) {
        (void)printf("log    damaged, of no account: segment %016" PRIu64 ".wal at offset %" PRIu32
                     ": %s\n",
                     damage->segment, damage->offset, damage->reason);
    }
}

/* The log ends before what the store has. */
static int judge_early_end(const struct check *check, const struct shard *shard,
                           const struct wal_shard_state *state, struct error *error)
{
    if (node_data_may_log_end_early(check->data)) {
        (void)printf("log    ends before what the store has: it was written with --flush everysec, "
                     "so this is no damage\n");
    } else if (shard_is_dispensable(shard)) {
        (void)printf("log    ends at entry %" PRIu64 ", before what the store has (%" PRIu64
                     "): a snapshot came from another node and the log begins anew behind it, so "
                     "this is no damage\n",
                     state->last_index, shard_stored_index(shard));
    } else {
        return error_say(error, ERROR_CORRUPT,
                         "the log ends at entry %" PRIu64
                         " but the store has applied entry %" PRIu64,
                         state->last_index, shard_stored_index(shard));
    }
    return 0;
}

static void print_entries(const struct wal_shard_state *state)
{
    if (state->first_index != 0) {
        (void)printf("entries %" PRIu64 " to %" PRIu64, state->first_index, state->last_index);
    } else if (state->last_index != 0) {
        (void)printf("no entries: all up to %" PRIu64 " were released, for the store has them",
                     state->last_index);
    } else {
        (void)printf("no entries yet");
    }
    (void)printf("; term %" PRIu64 "\n", state->hard_state.term);
}

/* Does the log go on where the store ends? */
static int check_end(struct check *check, wal_shard id, struct error *error)
{
    const struct shard *shard = find(check, id);
    struct wal_shard_state state = {0};
    if (!wal_get_shard_state(check->wal, id, &state)) {
        return 0;
    }
    if (check->map.range_count > 1) {
        (void)printf("log    shard %u: ", id);
    } else {
        (void)printf("log    ");
    }
    print_entries(&state);
    bool is_early =
        shard != NULL && state.last_index != 0 && state.last_index < shard_stored_index(shard);
    return is_early ? judge_early_end(check, shard, &state, error) : 0;
}

/* What a start would refuse, or ask the other nodes for. */
static int check_log(struct check *check, struct error *error)
{
    bool has_any = false;
    struct wal_shard_state state;
    for (uint32_t i = 0; i < check->shard_count; i++) {
        has_any |= wal_get_shard_state(check->wal, check->ids[i], &state);
    }
    for (uint32_t i = 0; i < check->shard_count; i++) {
        if (!node__is_log_gone(check->wal, check->ids[i], shard_stored_index(check->shards[i]),
                               node_data_shard_count(check->data), has_any)) {
            continue;
        }
        if (!shard_is_dispensable(check->shards[i])) {
            return error_say(error, ERROR_CORRUPT,
                             "the log of shard %" PRIu32
                             " is gone, and with it acknowledged writes",
                             check->ids[i]);
        }
        (void)printf("log    that of shard %" PRIu32 " is gone\n", check->ids[i]);
        check->is_repairable = true;
    }
    return 0;
}

static int open_log(struct check *check, struct error *error)
{
    int status = os_files_create(&check->files, node_data_wal_path(check->data), error);
    if (status != 0) {
        return status;
    }
    struct wal_options options = {
        .files = os_files_env(check->files),
        .segment_size_bytes = WAL_SEGMENT_SIZE_BYTES,
        .is_read_only = true,
        .first_needed = first_needed,
        .accept_loss = accept_loss,
        .damaged = found_damage,
        .context = check,
    };
    status = wal_open(&check->wal, &options, error);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < check->map.range_count && status == 0; i++) {
        status = check_end(check, check->map.ranges[i].shard, error);
    }
    return status == 0 ? check_log(check, error) : status;
}

int node_check(const char *data_directory, struct error *error)
{
    static struct check check; /* Large; one process checks once. */
    int status = node_data_open(&check.data, data_directory, NODE_USE_READ, error);
    if (status != 0) {
        return status;
    }
    struct error found = {0};
    status = node_map_read(check.data, &check.map, &found);
    if (status == 0) {
        status = open_store(&check, &found);
    }
    report(&check, "store", status, &found);
    if (check.store != NULL) {
        status = open_rows(&check, &found);
        report(&check, "rows", status, &found);
    }
    status = open_log(&check, &found);
    report(&check, "log", status, &found);
    for (uint32_t i = 0; i < check.shard_count && status == 0; i++) {
        if (check.shards[i] != NULL && shard_is_impaired(check.shards[i])) {
            (void)printf(
                "log    the replica of shard %u does not vote yet: it has not got back all "
                "that its log lost\n",
                check.ids[i]);
        }
    }

    if (check.wal != NULL) {
        wal_close(check.wal);
    }
    if (check.files != NULL) {
        os_files_destroy(check.files);
    }
    for (uint32_t i = 0; i < check.shard_count; i++) {
        if (check.kvs[i] != NULL) {
            shard_close(check.shards[i]);
            kv_destroy(check.kvs[i]);
        }
    }
    if (check.store != NULL) {
        store_close(check.store);
    }
    slots_deinit(&check.map);
    node_data_close(check.data);
    if (check.worst == 0 && check.is_repairable) {
        return error_say(error, ERROR_CORRUPT,
                         "the log of %s is damaged; nothing was changed. Other nodes have what it "
                         "lost: start the node, and it repairs itself.",
                         data_directory);
    }
    if (check.worst != 0) {
        return error_say(error, ERROR_CORRUPT,
                         "%s is damaged; nothing was changed. Restore it from a copy.",
                         data_directory);
    }
    return 0;
}
