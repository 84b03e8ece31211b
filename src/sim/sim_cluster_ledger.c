/* SPDX-License-Identifier: Apache-2.0 */
/* What the logs of all shards say of transactions, taken together, in the order in which it was first
 * executed anywhere: what is answered, and so everything that follows from an answer, comes later.
 *
 *   a part is prepared when no other one holds a key of it and its watched keys are as they were
 *   COMMIT is decided when every part is prepared, and a decision stays what it was
 *   a part is executed when it is prepared and COMMIT was decided, once
 *   a part that is prepared is dropped unless COMMIT was decided
 *   nothing else is executed on a key that is held
 *
 * The model executes the part, and must give its replies. It knows what a part means from who made
 * it. */
#include <inttypes.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"

enum { BUCKET_COUNT = 1024 };

/* What a PREPARE with these arguments means. */
struct meaning {
    uint64_t hash;
    struct cluster_question commands[CLUSTER_COMMAND_COUNT_MAX]; /* With the keys of one shard. */
    uint32_t command_count;
    struct cluster_watched watches[CLUSTER_WATCH_COUNT_MAX]; /* Those of this shard. */
    uint32_t watch_count;
};

enum part_state { PART_NONE, PART_PREPARED, PART_EXECUTED, PART_DROPPED };

struct part {
    enum part_state state;
    struct meaning *meaning;
    uint64_t stamp_ms;
};

struct entry {
    struct entry *next;
    struct txn_id id;
    enum txn_outcome outcome;
    struct part parts[CLUSTER_SHARD_COUNT_MAX]; /* By place in the map of shards. */
};

struct cluster_ledger {
    struct kv_txn_opcodes opcodes;
    struct meaning **meanings;
    uint32_t meaning_count;
    uint32_t meaning_capacity;
    struct entry *buckets[BUCKET_COUNT];
    struct part **open[CLUSTER_SHARD_COUNT_MAX]; /* Parts that are prepared. */
    uint32_t open_counts[CLUSTER_SHARD_COUNT_MAX];
    uint32_t open_capacities[CLUSTER_SHARD_COUNT_MAX];
};

/* ---- What parts mean ------------------------------------------------------------------------- */

/* The part of a command that lies in that shard. False: none does. */
static bool cut(const struct slots *slots, const struct cluster_question *whole, wal_shard shard,
                struct cluster_question *piece)
{
    const char *name = whole->command->name;
    uint32_t stride = strcmp(name, "mget") == 0   ? 1
                      : strcmp(name, "mset") == 0 ? 2
                                                  : whole->argument_count;
    *piece = (struct cluster_question){.command = whole->command};
    for (uint32_t i = 0; i < whole->argument_count; i += stride) {
        for (uint32_t k = 0;
             k < stride && slots_shard_of(slots, kv_slot_of_key(whole->arguments[i])) == shard;
             k++) {
            sim__cluster_question_add(piece, whole->arguments[i + k]);
        }
    }
    return piece->argument_count > 0;
}

static struct bytes copy_of(struct bytes bytes)
{
    uint8_t *copy = memory_allocate(bytes.size_bytes + 1);
    memcpy(copy, bytes.data, bytes.size_bytes);
    return bytes_make(copy, bytes.size_bytes);
}

static bool is_known(const struct cluster_ledger *ledger, uint64_t hash)
{
    for (uint32_t i = 0; i < ledger->meaning_count; i++) {
        if (ledger->meanings[i]->hash == hash) {
            return true;
        }
    }
    return false;
}

void sim__cluster_ledger_expect(struct cluster *cluster,
                                const struct cluster_transaction *transaction)
{
    struct cluster_ledger *ledger = cluster->ledger;
    for (uint32_t i = 0; i < kv_split_part_count(transaction->split); i++) {
        struct txn_part part = kv_split_part(transaction->split, i);
        const struct slots *slots = sim__cluster_map(cluster, transaction->map);
        wal_shard shard = slots_shard_of(slots, part.place);
        struct shard_command command = {0, part.argument_count, part.arguments};
        uint64_t hash = sim__command_hash(&command);
        if (is_known(ledger, hash)) {
            continue; /* The same reads, once more. */
        }
        struct meaning *meaning = memory_allocate_zeroed(1, sizeof *meaning);
        meaning->hash = hash;
        for (uint32_t k = 0; k < transaction->command_count; k++) {
            meaning->command_count += cut(slots, &transaction->commands[k], shard,
                                          &meaning->commands[meaning->command_count]);
        }
        for (uint32_t k = 0; k < transaction->watch_count; k++) {
            const struct cluster_watched *watched = &transaction->watches[k];
            if (slots_shard_of(slots, kv_slot_of_key(watched->key)) == shard) {
                meaning->watches[meaning->watch_count++] =
                    (struct cluster_watched){copy_of(watched->key), watched->version};
            }
        }
        if (ledger->meaning_count == ledger->meaning_capacity) {
            ledger->meaning_capacity = 2 * ledger->meaning_capacity + 64;
            ledger->meanings = memory_resize(ledger->meanings,
                                             ledger->meaning_capacity * sizeof(struct meaning *));
        }
        ledger->meanings[ledger->meaning_count++] = meaning;
    }
}

/* NULL: nobody made such a part. */
static struct meaning *meaning_of(const struct cluster_ledger *ledger,
                                  const struct shard_command *prepare)
{
    struct shard_command part = {0, prepare->argument_count - 1, prepare->arguments + 1};
    uint64_t hash = sim__command_hash(&part);
    for (uint32_t i = 0; i < ledger->meaning_count; i++) {
        if (ledger->meanings[i]->hash == hash) {
            return ledger->meanings[i];
        }
    }
    return NULL;
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static struct entry *entry_of(struct cluster_ledger *ledger, struct txn_id id)
{
    struct entry **bucket = &ledger->buckets[(id.origin * 31 + id.number) % BUCKET_COUNT];
    for (struct entry *entry = *bucket; entry != NULL; entry = entry->next) {
        if (txn_id_equal(entry->id, id)) {
            return entry;
        }
    }
    struct entry *entry = memory_allocate_zeroed(1, sizeof *entry);
    entry->id = id;
    entry->next = *bucket;
    *bucket = entry;
    return entry;
}

static void open_part(struct cluster_ledger *ledger, uint32_t place, struct part *part)
{
    if (ledger->open_counts[place] == ledger->open_capacities[place]) {
        ledger->open_capacities[place] = 2 * ledger->open_capacities[place] + 16;
        ledger->open[place] = memory_resize(ledger->open[place],
                                            ledger->open_capacities[place] * sizeof(struct part *));
    }
    ledger->open[place][ledger->open_counts[place]++] = part;
}

static void close_part(struct cluster_ledger *ledger, uint32_t place, const struct part *part)
{
    for (uint32_t i = 0; i < ledger->open_counts[place]; i++) {
        if (ledger->open[place][i] == part) {
            ledger->open[place][i] = ledger->open[place][--ledger->open_counts[place]];
            return;
        }
    }
}

static bool is_watching(const struct meaning *meaning, struct bytes key)
{
    for (uint32_t i = 0; i < meaning->watch_count; i++) {
        if (bytes_equal(meaning->watches[i].key, key)) {
            return true;
        }
    }
    return false;
}

static bool has_changed(const struct meaning *meaning, const struct sim__model *model)
{
    for (uint32_t i = 0; i < meaning->watch_count; i++) {
        const struct cluster_watched *watched = &meaning->watches[i];
        if (sim__model_version(model, watched->key) != watched->version) {
            return true;
        }
    }
    return false;
}

/* Values are none, and moves put the same one into several keys. */
static bool is_key(const struct cluster_question *command, uint32_t argument)
{
    const char *name = command->command->name;
    return argument == 0 || strcmp(name, "mget") == 0 ||
           (strcmp(name, "mset") == 0 && argument % 2 == 0);
}

static bool names(const struct meaning *meaning, struct bytes key)
{
    bool is_named = is_watching(meaning, key);
    for (uint32_t i = 0; i < meaning->command_count; i++) {
        const struct cluster_question *command = &meaning->commands[i];
        for (uint32_t k = 0; k < command->argument_count; k++) {
            is_named = is_named || (is_key(command, k) && bytes_equal(command->arguments[k], key));
        }
    }
    return is_named;
}

static bool is_held(const struct cluster_ledger *ledger, uint32_t place, struct bytes key)
{
    for (uint32_t i = 0; i < ledger->open_counts[place]; i++) {
        if (names(ledger->open[place][i]->meaning, key)) {
            return true;
        }
    }
    return false;
}

void sim__cluster_ledger_check_free(struct cluster *cluster, uint32_t place,
                                    const struct shard_command *command)
{
    for (uint32_t i = 0; i < command->argument_count; i++) {
        if (is_held(cluster->ledger, place, command->arguments[i])) {
            sim__cluster_fail(cluster, "a command is executed on a key that a transaction holds");
        }
    }
}

static bool is_any_held(const struct cluster_ledger *ledger, uint32_t place,
                        const struct meaning *meaning)
{
    bool is_any = false;
    for (uint32_t i = 0; i < meaning->watch_count; i++) {
        is_any = is_any || is_held(ledger, place, meaning->watches[i].key);
    }
    for (uint32_t i = 0; i < meaning->command_count; i++) {
        const struct cluster_question *command = &meaning->commands[i];
        for (uint32_t k = 0; k < command->argument_count; k++) {
            is_any =
                is_any || (is_key(command, k) && is_held(ledger, place, command->arguments[k]));
        }
    }
    return is_any;
}

/* ---- The steps ------------------------------------------------------------------------------- */

/* One that was executed. */
struct step {
    struct cluster *cluster;
    uint32_t place;
    const struct shard_stamp *stamp;
    const struct shard_command *command;
    struct txn_header header;
    struct txn_reply reply;
    struct sim__model *model;
};

static void complain(const struct step *step, const char *what)
{
    sim__cluster_fail(step->cluster, "%s: transaction %" PRIu64 ".%" PRIu64 ", shard %u", what,
                      step->header.id.origin, step->header.id.number, step->place + 1);
}

static void prepared(const struct step *step, struct entry *entry)
{
    struct cluster_ledger *ledger = step->cluster->ledger;
    struct part *part = &entry->parts[step->place];
    struct meaning *meaning = meaning_of(ledger, step->command);
    if (meaning == NULL) {
        complain(step, "a part is prepared that nobody made");
        return;
    }
    bool is_changed = has_changed(meaning, step->model);
    if (step->reply.answer == TXN_ANSWER_CHANGED && !is_changed) {
        complain(step, "a watched key has not changed");
    }
    if (step->reply.answer != TXN_ANSWER_YES || part->state == PART_PREPARED) {
        return;
    }
    if (part->state != PART_NONE) {
        complain(step, "a part is prepared again after its end");
    } else if (is_changed) {
        complain(step, "a part is prepared although a watched key has changed");
    } else if (is_any_held(ledger, step->place, meaning)) {
        complain(step, "two transactions hold a key");
    }
    *part = (struct part){PART_PREPARED, meaning, step->stamp->time_ms};
    open_part(ledger, step->place, part);
}

static bool are_all(const struct step *step, const struct entry *entry, enum part_state state)
{
    struct bytes places = step->command->arguments[1];
    for (size_t i = 0; i + 4 <= places.size_bytes; i += 4) {
        uint32_t place = endian_get_u32_le(places.data + i);
        if (entry->parts[slots_shard_of(&step->cluster->slots, place) - 1].state != state) {
            return false;
        }
    }
    return true;
}

static bool has_open_part(const struct entry *entry)
{
    for (uint32_t i = 0; i < CLUSTER_SHARD_COUNT_MAX; i++) {
        if (entry->parts[i].state == PART_PREPARED) {
            return true;
        }
    }
    return false;
}

static void decided(const struct step *step, struct entry *entry)
{
    enum txn_outcome outcome = step->reply.answer == TXN_ANSWER_COMMITTED ? TXN_COMMIT
                               : step->reply.answer == TXN_ANSWER_ABORTED ? TXN_ABORT
                                                                          : TXN_NONE;
    if (outcome == TXN_NONE) {
        if (entry->outcome == TXN_COMMIT && has_open_part(entry)) {
            complain(step, "a commit is forgotten before all have finished");
        }
        return;
    }
    if (entry->outcome == TXN_NONE && outcome == TXN_COMMIT &&
        !are_all(step, entry, PART_PREPARED)) {
        complain(step, "COMMIT is decided and not all are prepared");
    }
    if (entry->outcome != TXN_NONE && entry->outcome != outcome) {
        complain(step, "a decision has changed");
    }
    entry->outcome = outcome;
}

static void execute(const struct step *step, const struct part *part)
{
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    for (uint32_t i = 0; i < part->meaning->command_count; i++) {
        const struct cluster_question *question = &part->meaning->commands[i];
        struct shard_command command = {question->command->opcode, question->argument_count,
                                        question->arguments};
        bool is_in_model =
            sim__model_execute(step->model, part->stamp_ms, step->stamp->version, &command, &reply);
        ASSERT(is_in_model);
    }
    if (!bytes_equal(buffer_bytes(&answer), step->reply.replies)) {
        complain(step, "the model answers a part otherwise");
    }
    buffer_deinit(&answer);
}

static void finished(const struct step *step, struct entry *entry)
{
    struct cluster_ledger *ledger = step->cluster->ledger;
    struct part *part = &entry->parts[step->place];
    bool is_forgotten = txn_is_too_old(step->header.id, step->stamp->time_ms);
    if (step->reply.answer == TXN_ANSWER_COMMITTED && step->reply.has_replies) {
        if (part->state != PART_PREPARED) {
            complain(step, "a part is executed that is not prepared");
            return;
        }
        if (entry->outcome != TXN_COMMIT) {
            complain(step, "a part is executed without a decision");
        }
        close_part(ledger, step->place, part);
        part->state = PART_EXECUTED;
        execute(step, part);
    } else if (step->reply.answer == TXN_ANSWER_COMMITTED) {
        if (part->state != PART_EXECUTED && !is_forgotten) {
            complain(step, "a part is called executed that is not");
        }
    } else if (step->reply.answer == TXN_ANSWER_ABORTED) {
        if (entry->outcome == TXN_COMMIT && !is_forgotten) {
            complain(step, "a part is dropped although COMMIT was decided");
        }
        if (part->state == PART_PREPARED) {
            close_part(ledger, step->place, part);
        }
        /* Of what is too new nothing is remembered; who gave it up will not ask for COMMIT. */
        bool is_remembered =
            !is_forgotten && !txn_is_too_new(step->header.id, step->stamp->time_ms);
        if (part->state != PART_EXECUTED) {
            part->state = is_remembered ? PART_DROPPED : PART_NONE;
        }
    } else {
        complain(step, "a part is lost");
    }
}

/* ---- Who took a step, and what befalls it ---------------------------------------------------- */

static void befall(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = cluster->nodes[event->value % CLUSTER_NODE_COUNT_MAX];
    uint32_t place = (uint32_t)(event->value / CLUSTER_NODE_COUNT_MAX);
    struct shard *shard = sim__cluster_node_shard(node, place);
    if (cluster->is_healing || shard == NULL) {
        return;
    }
    uint64_t choice = random_below(&cluster->random, 10);
    sim__cluster_note(cluster, "cluster.aimed", sim__cluster_node_id(node), place, choice);
    if (choice < 4) {
        sim__cluster_node_kill(cluster, node, choice < 2);
    } else if (choice < 6) {
        sim__cluster_node_pause(
            cluster, node,
            sim__cluster_delay(cluster, 3000u * cluster->nature.election_timeout_ms));
    } else if (choice < 7) {
        sim__cluster_partition(cluster);
    } else if (shard_is_ready(shard)) {
        raft_node to = sim__cluster_node_id(cluster->nodes[sim__cluster_any_node(cluster)]);
        int status = shard_transfer(shard, to);
        sim__cluster_note(cluster, "cluster.transfer", sim__cluster_node_id(node), to,
                          (uint64_t)-status);
        sim__cluster_node_look(cluster, node);
    }
}

/* The coordinator's node, or the one that is the first to have executed the step. */
static void aim(const struct step *step, const struct cluster_node *node)
{
    struct cluster *cluster = step->cluster;
    if (cluster->is_healing ||
        !random_chance(&cluster->random, cluster->nature.aimed_per_mille, 1000)) {
        return;
    }
    uint32_t target = random_chance(&cluster->random, 1, 2)
                          ? sim__cluster_coordinator_node(step->header.id.origin)
                          : sim__cluster_node_id(node) - 1;
    uint64_t delay_us = random_chance(&cluster->random, 1, 2)
                            ? 0
                            : random_below(&cluster->random, 3u * cluster->nature.network_us);
    sim__cluster_schedule(cluster, delay_us, befall, NULL,
                          target + step->place * CLUSTER_NODE_COUNT_MAX, NULL);
}

bool sim__cluster_is_step(const struct shard_command *command)
{
    const struct kv_txn_opcodes opcodes = kv_txn_opcodes();
    return command->opcode == opcodes.prepare || command->opcode == opcodes.decide ||
           command->opcode == opcodes.finish || command->opcode == opcodes.forget;
}

bool sim__cluster_ledger_step(struct cluster *cluster, uint32_t place, struct cluster_node *node,
                              const struct shard_stamp *stamp, const struct shard_command *command,
                              struct bytes answer, struct sim__model *model)
{
    struct cluster_ledger *ledger = cluster->ledger;
    struct step step = {
        .cluster = cluster, .place = place, .stamp = stamp, .command = command, .model = model};
    if (!sim__cluster_is_step(command)) {
        return false;
    }
    if (!txn_header_decode(command->arguments[0], &step.header) ||
        !txn_reply_decode(answer, &step.reply)) {
        sim__cluster_fail(cluster, "a step of a transaction is malformed, or its answer");
        return true;
    }
    sim__cluster_note(cluster, "transaction.step", command->opcode, step.header.id.number,
                      step.reply.answer);
    struct entry *entry = entry_of(ledger, step.header.id);
    if (command->opcode == ledger->opcodes.prepare) {
        prepared(&step, entry);
    } else if (command->opcode == ledger->opcodes.decide) {
        decided(&step, entry);
    } else if (command->opcode == ledger->opcodes.finish) {
        finished(&step, entry);
    }
    aim(&step, node);
    return true;
}

void sim__cluster_ledger_split(struct cluster *cluster, uint32_t parent, uint32_t child)
{
    for (uint32_t i = 0; i < BUCKET_COUNT; i++) {
        for (struct entry *entry = cluster->ledger->buckets[i]; entry != NULL;
             entry = entry->next) {
            if (entry->parts[parent].state == PART_PREPARED) {
                sim__cluster_fail(cluster, "shard %u splits while a part is prepared", parent + 1);
            }
            entry->parts[child] = entry->parts[parent];
        }
    }
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct cluster_ledger *sim__cluster_ledger_create(void)
{
    struct cluster_ledger *ledger = memory_allocate_zeroed(1, sizeof *ledger);
    ledger->opcodes = kv_txn_opcodes();
    return ledger;
}

void sim__cluster_ledger_destroy(struct cluster_ledger *ledger)
{
    for (uint32_t i = 0; i < ledger->meaning_count; i++) {
        struct meaning *meaning = ledger->meanings[i];
        for (uint32_t k = 0; k < meaning->command_count; k++) {
            sim__cluster_question_forget(&meaning->commands[k]);
        }
        for (uint32_t k = 0; k < meaning->watch_count; k++) {
            memory_free((void *)(uintptr_t)meaning->watches[k].key.data);
        }
        memory_free(meaning);
    }
    memory_free(ledger->meanings);
    for (uint32_t i = 0; i < BUCKET_COUNT; i++) {
        while (ledger->buckets[i] != NULL) {
            struct entry *entry = ledger->buckets[i];
            ledger->buckets[i] = entry->next;
            memory_free(entry);
        }
    }
    for (uint32_t i = 0; i < CLUSTER_SHARD_COUNT_MAX; i++) {
        memory_free(ledger->open[i]);
    }
    memory_free(ledger);
}
