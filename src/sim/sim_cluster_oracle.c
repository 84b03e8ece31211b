/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle stands between the shard and the state machine of every replica.
 *
 * The group orders one log. The first replica that executes a command decides what the command at
 * that place is; from then on every other replica, and every later life, must execute the same
 * command at the same time with the same reply. A naive model of Redis executes each once and must
 * give that reply. A command with a value of its own must not be there twice. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster_stale.h"

struct executed {
    uint64_t version; /* Of the stamp: index and ordinal. */
    uint64_t time_ms;
    uint64_t command_hash;
    uint64_t reply_hash;
};

struct digest {
    raft_index index;
    uint64_t digest;
};

struct cluster_watch {
    struct cluster_oracle *oracle;
    struct cluster_node *node;
    struct shard_machine machine;
    struct list link;
    const struct rows *rows;   /* Of the replica; a read elsewhere has others, */
    raft_index elsewhere_from; /* as of one of these entries. */
    raft_index elsewhere_to;
    uint64_t executed_version; /* By this replica, since it was loaded. */
};

struct cluster_oracle {
    struct cluster *cluster;
    uint32_t place;
    struct executed *log; /* In order. */
    uint32_t log_count;
    uint32_t log_capacity;
    struct digest *digests; /* By index; 0: not known yet. */
    uint64_t digest_capacity;
    raft_node *leaders; /* By term. */
    uint64_t leader_capacity;
    struct sim__model model;
    struct cluster_past *past; /* NULL: no read may be stale. */
    uint64_t acknowledged_version;
    struct list watches;
    raft_index birth_index; /* Of a child: where its parent's log has the SPLIT; 0: not yet. */
    uint32_t first_slot;
};

static struct executed *find(struct cluster_oracle *oracle, uint64_t version)
{
    uint32_t lower = 0;
    uint32_t upper = oracle->log_count;
    while (lower < upper) {
        uint32_t middle = (lower + upper) / 2;
        if (oracle->log[middle].version < version) {
            lower = middle + 1;
        } else {
            upper = middle;
        }
    }
    bool is_there = lower < oracle->log_count && oracle->log[lower].version == version;
    return is_there ? &oracle->log[lower] : NULL;
}

static bool is_unique(const struct shard_command *command)
{
    for (uint32_t i = 0; i < command->argument_count; i++) {
        if (bytes_have_prefix(command->arguments[i], BYTES("unique:"))) {
            return true;
        }
    }
    return false;
}

static void ask_model(struct cluster_oracle *oracle, const struct executed *executed,
                      const struct shard_command *command, uint8_t protocol)
{
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = protocol};
    if (sim__model_execute(&oracle->model, executed->time_ms, executed->version, command, &reply) &&
        sim__reply_hash(NULL, buffer_bytes(&answer)) != executed->reply_hash) {
        sim__cluster_fail(oracle->cluster, "the model answers otherwise at %" PRIx64,
                          executed->version);
    }
    buffer_deinit(&answer);
}

/* Also not in the shard that had its key before, or has it now. */
static void check_once(const struct cluster_oracle *oracle, const struct executed *executed)
{
    for (uint32_t i = 0; i < oracle->log_count; i++) {
        if (oracle->log[i].command_hash == executed->command_hash) {
            sim__cluster_fail(oracle->cluster,
                              "a write took effect twice, at %" PRIx64 " and %" PRIx64,
                              oracle->log[i].version, executed->version);
        }
    }
}

static void first_execution(struct cluster_watch *watch, const struct executed *executed,
                            const struct shard_command *command, uint8_t protocol,
                            struct bytes answer)
{
    struct cluster_oracle *oracle = watch->oracle;
    struct cluster *cluster = oracle->cluster;
    if (oracle->log_count > 0 && executed->version < oracle->log[oracle->log_count - 1].version) {
        sim__cluster_fail(cluster, "a command at %" PRIx64 " that no replica had there",
                          executed->version);
        return;
    }
    for (uint32_t i = 0; i < cluster->shard_count && is_unique(command); i++) {
        check_once(cluster->oracles[i], executed);
    }
    if (oracle->log_count == oracle->log_capacity) {
        oracle->log_capacity = oracle->log_capacity == 0 ? 64 : 2 * oracle->log_capacity;
        oracle->log = memory_resize(oracle->log, oracle->log_capacity * sizeof oracle->log[0]);
    }
    oracle->log[oracle->log_count++] = *executed;
    const struct shard_stamp stamp = {.time_ms = executed->time_ms, .version = executed->version};
    if (!sim__cluster_ledger_step(cluster, oracle->place, watch->node, &stamp, command, answer,
                                  &oracle->model)) {
        sim__cluster_ledger_check_free(cluster, oracle->place, command);
        ask_model(oracle, executed, command, protocol);
    }
    if (oracle->past != NULL) {
        sim__cluster_past_note(oracle->past, &oracle->model, executed->version, executed->time_ms);
    }
    cluster->result->entry_count++;
}

/* Its answer is for the node, and not as clients get theirs. */
static bool is_internal(const struct shard_command *command)
{
    return sim__cluster_is_step(command) || command->opcode == kv_versions_opcode() ||
           command->opcode == kv_content_opcode();
}

static int execute(void *context, struct rows *rows, const struct shard_stamp *stamp,
                   const struct shard_command *command, const struct reply *reply)
{
    struct cluster_watch *watch = context;
    struct cluster_oracle *oracle = watch->oracle;
    size_t start = reply->target->size_bytes;
    int status = watch->machine.execute(watch->machine.context, rows, stamp, command, reply);
    if (status != 0) {
        return status;
    }
    watch->executed_version = stamp->version;
    struct bytes answer =
        bytes_make(reply->target->data + start, reply->target->size_bytes - start);
    struct executed executed = {
        .version = stamp->version,
        .time_ms = stamp->time_ms,
        .command_hash = sim__command_hash(command),
        .reply_hash = is_internal(command) ? hash_bytes(answer, 0) : sim__reply_hash(NULL, answer),
    };
    const struct executed *known = find(oracle, stamp->version);
    if (known == NULL) {
        first_execution(watch, &executed, command, reply->protocol, answer);
    } else if (known->command_hash != executed.command_hash || known->time_ms != executed.time_ms ||
               known->reply_hash != executed.reply_hash) {
        sim__cluster_fail(oracle->cluster, "replicas execute different commands at %" PRIx64,
                          stamp->version);
    }
    return 0;
}

static int load(void *context, struct rows *rows, struct bytes saved, struct error *error)
{
    struct cluster_watch *watch = context;
    watch->rows = rows;
    watch->executed_version = 0;
    return watch->machine.load(watch->machine.context, rows, saved, error);
}

static void save(void *context, struct buffer *saved)
{
    struct cluster_watch *watch = context;
    watch->machine.save(watch->machine.context, saved);
}

/* Where the replica is, in the midst of an entry, perhaps. */
static uint64_t version_of(const struct cluster_watch *watch, raft_index applied)
{
    bool is_within = watch->executed_version >> 16 == applied + 1;
    return is_within ? watch->executed_version : applied << 16 | 0xffff;
}

/* A read is exact: the keys were so where this replica is, or else where its store was when a read elsewhere
 * began. */
static void check_read(const struct cluster_watch *watch, const struct rows *rows,
                       const struct shard_moment *moment, const struct shard_command *command,
                       struct bytes answer)
{
    const struct cluster_oracle *oracle = watch->oracle;
    struct cluster *cluster = oracle->cluster;
    const struct shard *shard = sim__cluster_node_shard(watch->node, oracle->place);
    bool is_elsewhere = rows != watch->rows;
    if (oracle->past == NULL || shard == NULL || !sim__cluster_past_knows(command->opcode)) {
        return;
    }
    raft_index applied = is_elsewhere ? watch->elsewhere_to : shard_applied_index(shard);
    struct cluster_read read = {
        .to = is_elsewhere ? applied << 16 | 0xffff : version_of(watch, applied),
        .durable_ms = moment->durable_time_ms,
        .arguments = command->arguments,
        .argument_count = command->argument_count,
        .reply = answer,
    };
    read.from = is_elsewhere ? watch->elsewhere_from << 16 | 0xffff : read.to;
    raft_node id = sim__cluster_node_id(watch->node);
    if (applied == 0) {
        sim__cluster_fail(cluster, "node %u answers a read of shard %u, and has nothing of it", id,
                          oracle->place + 1);
    } else if (!is_elsewhere &&
               !sim__cluster_past_has_time(oracle->past, read.to, moment->durable_time_ms)) {
        sim__cluster_fail(cluster, "node %u reads at a time that the log has not at %" PRIx64, id,
                          read.to);
    } else if (!is_elsewhere &&
               sim__cluster_past_has_expired(oracle->past, &read, moment->time_ms)) {
        sim__cluster_fail(cluster,
                          "node %u sees a key that has expired, or that it is gone, at %" PRIx64,
                          id, read.to);
    } else if (!sim__cluster_past_explains(oracle->past, command->opcode, &read)) {
        sim__cluster_fail(cluster, "node %u reads what was not so at %" PRIx64, id, read.to);
    }
}

static int read(void *context, struct rows *rows, const struct shard_moment *moment,
                const struct shard_command *command, const struct reply *reply)
{
    struct cluster_watch *watch = context;
    size_t start = reply->target->size_bytes;
    int status = watch->machine.read(watch->machine.context, rows, moment, command, reply);
    if (status == 0) {
        check_read(watch, rows, moment, command,
                   bytes_make(reply->target->data + start, reply->target->size_bytes - start));
    }
    return status;
}

static int prefetch(void *context, struct rows *rows, const struct shard_command *command,
                    uint64_t *load_size_bytes)
{
    struct cluster_watch *watch = context;
    return watch->machine.prefetch(watch->machine.context, rows, command, load_size_bytes);
}

static bool background(void *context, struct rows *rows, uint64_t time_ms,
                       struct shard_command *command, uint64_t *next_ms)
{
    struct cluster_watch *watch = context;
    if (watch->oracle->cluster->is_quiet) {
        *next_ms += 1000;
        return false;
    }
    return watch->machine.background(watch->machine.context, rows, time_ms, command, next_ms);
}

static bool must_wait(void *context, const struct shard_command *command)
{
    struct cluster_watch *watch = context;
    return watch->machine.must_wait(watch->machine.context, command);
}

static void gathered(void *context, const struct shard_command *command)
{
    struct cluster_watch *watch = context;
    watch->machine.gathered(watch->machine.context, command);
    if (command != NULL && command->opcode == SHARD_OPCODE_SPLIT) {
        sim__cluster_stale_split_begins(watch->oracle->cluster, watch->node, watch->oracle->place);
    }
}

static void waits(void *context, const struct shard_command *command)
{
    struct cluster_watch *watch = context;
    watch->machine.waits(watch->machine.context, command);
}

static bool declines(void *context, const struct shard_command *command, const struct reply *reply)
{
    struct cluster_watch *watch = context;
    return watch->machine.declines(watch->machine.context, command, reply);
}

static const struct shard_command *instead(void *context, const struct shard_command *command,
                                           uint64_t load_size_bytes)
{
    struct cluster_watch *watch = context;
    return watch->machine.instead(watch->machine.context, command, load_size_bytes);
}

static void set_range(void *context, uint32_t first_slot, uint32_t end_slot)
{
    struct cluster_watch *watch = context;
    watch->machine.set_range(watch->machine.context, first_slot, end_slot);
}

static int split(void *context, struct rows *rows, uint32_t first_slot, struct buffer *child_saved)
{
    struct cluster_watch *watch = context;
    return watch->machine.split(watch->machine.context, rows, first_slot, child_saved);
}

struct shard_machine sim__cluster_oracle_machine(struct cluster_oracle *oracle,
                                                 struct cluster_node *node,
                                                 struct shard_machine machine,
                                                 struct cluster_watch **watched)
{
    struct cluster_watch *watch = memory_allocate_zeroed(1, sizeof *watch);
    watch->oracle = oracle;
    watch->node = node;
    watch->machine = machine;
    list_push_back(&oracle->watches, &watch->link);
    *watched = watch;
    return (struct shard_machine){
        .context = watch,
        .load = load,
        .save = save,
        .execute = execute,
        .read = read,
        .prefetch = prefetch,
        .background = background,
        .must_wait = must_wait,
        .gathered = gathered,
        .waits = waits,
        .declines = declines,
        .instead = instead,
        .set_range = set_range,
        .split = split,
    };
}

void sim__cluster_oracle_digest(struct cluster *cluster, uint32_t place, raft_index index,
                                uint64_t digest)
{
    struct cluster_oracle *oracle = cluster->oracles[place];
    if (index >= oracle->digest_capacity) {
        uint64_t capacity = 2 * index + 64;
        oracle->digests = memory_resize(oracle->digests, capacity * sizeof oracle->digests[0]);
        for (uint64_t i = oracle->digest_capacity; i < capacity; i++) {
            oracle->digests[i] = (struct digest){0};
        }
        oracle->digest_capacity = capacity;
    }
    struct digest *known = &oracle->digests[index];
    if (known->index == 0) {
        *known = (struct digest){index, digest};
    } else if (known->digest != digest) {
        sim__cluster_fail(cluster, "replicas have different digests at entry %" PRIu64, index);
    }
}

void sim__cluster_oracle_leader(struct cluster *cluster, uint32_t place, raft_term term,
                                raft_node node)
{
    struct cluster_oracle *oracle = cluster->oracles[place];
    if (term >= oracle->leader_capacity) {
        uint64_t capacity = 2 * term + 64;
        oracle->leaders = memory_resize(oracle->leaders, capacity * sizeof oracle->leaders[0]);
        for (uint64_t i = oracle->leader_capacity; i < capacity; i++) {
            oracle->leaders[i] = 0;
        }
        oracle->leader_capacity = capacity;
    }
    if (oracle->leaders[term] != 0 && oracle->leaders[term] != node) {
        sim__cluster_fail(cluster, "term %" PRIu64 " has two leaders", term);
    }
    oracle->leaders[term] = node;
}

raft_term sim__cluster_oracle_newest_term(const struct cluster *cluster, uint32_t place)
{
    const struct cluster_oracle *oracle = cluster->oracles[place];
    raft_term term = oracle->leader_capacity;
    while (term > 0 && oracle->leaders[term - 1] == 0) {
        term--;
    }
    return term > 0 ? term - 1 : 0;
}

/* In which shard it happened is nobody's business: it may have been split since. */
void sim__cluster_oracle_acknowledged(struct cluster *cluster, uint64_t command_hash,
                                      uint64_t reply_hash)
{
    for (uint32_t place = 0; place < cluster->shard_count; place++) {
        struct cluster_oracle *oracle = cluster->oracles[place];
        for (uint32_t i = oracle->log_count; i-- > 0;) {
            if (oracle->log[i].command_hash == command_hash) {
                if (oracle->log[i].reply_hash != reply_hash) {
                    sim__cluster_fail(cluster, "a write was answered otherwise than it happened");
                }
                if (oracle->acknowledged_version < oracle->log[i].version) {
                    oracle->acknowledged_version = oracle->log[i].version;
                }
                return;
            }
        }
    }
    sim__cluster_fail(cluster, "an acknowledged write never happened");
}

void sim__cluster_oracle_split(struct cluster *cluster, uint32_t parent, raft_index index,
                               const struct slots_range *child)
{
    struct cluster_oracle *oracle = cluster->oracles[child->shard - 1];
    if (oracle->birth_index != 0) {
        if (oracle->birth_index != index || oracle->first_slot != child->first) {
            sim__cluster_fail(cluster,
                              "shard %u is born twice, at entries %" PRIu64 " and %" PRIu64,
                              child->shard, oracle->birth_index, index);
        }
        return;
    }
    oracle->birth_index = index;
    oracle->first_slot = child->first;
    struct sim__model *source = &cluster->oracles[parent]->model;
    sim__model_copy(&oracle->model, source);
    for (uint32_t i = source->key_count; i-- > 0;) {
        uint32_t slot = kv_slot_of_key(buffer_bytes(&source->keys[i].name));
        struct sim__model *other = slot < child->first ? &oracle->model : source;
        struct sim__key *key = sim__model_find(other, buffer_bytes(&source->keys[i].name), 0);
        ASSERT(key != NULL);
        sim__model_remove(other, key);
    }
    if (oracle->past != NULL) {
        sim__cluster_past_divide(cluster->oracles[parent]->past, index, child->first, oracle->past,
                                 &oracle->model);
    }
    sim__cluster_ledger_split(cluster, parent, child->shard - 1);
}

uint64_t sim__cluster_oracle_acknowledged_version(const struct cluster *cluster, uint32_t place)
{
    return cluster->oracles[place]->acknowledged_version;
}

bool sim__cluster_oracle_explains(const struct cluster *cluster, uint32_t place, uint16_t opcode,
                                  const struct cluster_read *read)
{
    return sim__cluster_past_explains(cluster->oracles[place]->past, opcode, read);
}

void sim__cluster_oracle_elsewhere(struct cluster_watch *watch, raft_index from, raft_index to)
{
    watch->elsewhere_from = from;
    watch->elsewhere_to = to;
}

const struct sim__model *sim__cluster_oracle_model(const struct cluster_oracle *oracle)
{
    return &oracle->model;
}

struct cluster_oracle *sim__cluster_oracle_create(struct cluster *cluster, uint32_t place)
{
    struct cluster_oracle *oracle = memory_allocate_zeroed(1, sizeof *oracle);
    oracle->cluster = cluster;
    oracle->place = place;
    list_init(&oracle->watches);
    sim__model_init(&oracle->model);
    oracle->past = cluster->nature.stale_percent > 0 ? sim__cluster_past_create() : NULL;
    return oracle;
}

void sim__cluster_oracle_destroy(struct cluster_oracle *oracle)
{
    for (struct list *member; (member = list_pop_front(&oracle->watches)) != NULL;) {
        memory_free(LIST_ITEM(member, struct cluster_watch, link));
    }
    sim__model_deinit(&oracle->model);
    sim__cluster_past_destroy(oracle->past);
    memory_free(oracle->log);
    memory_free(oracle->digests);
    memory_free(oracle->leaders);
    memory_free(oracle);
}
