/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle: it watches the state machine from outside and holds every command that the log orders
 * against the model.
 *
 * It stands between shard and kv and sees each execute() and read(). The first time a version
 * (index and ordinal) is executed, the model executes the command too and must answer the same; the
 * command joins the order. When a version comes again, after a restart, it must be the same command
 * at the same time with the same reply, and all that was executed must come again or be in the
 * store: nothing executed may be lost, since only what is durable is executed.
 *
 * Clients are held against the same order: an answered write must be a command of the order,
 * executed after it was submitted, with that very reply, and no other request's; an answered read
 * must have a reply that the model gave at some moment since it was submitted, and not before what
 * its session has already seen; a command in the order must have been asked for. */
#include <inttypes.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_internal.h"

/* One command of the order. */
struct executed {
    uint64_t version;
    uint64_t time_ms;
    uint64_t class_hash;
    uint64_t reply_hash;
    uint64_t said_hash;        /* Of the reply in any protocol: a replay has nobody to answer. */
    struct shard_command copy; /* Only where some of the order may be lost. */
    uint64_t content_hash;     /* Of the store after it; 0: it was not the last of a batch. */
    bool is_wanted;            /* A client's write: somebody must have asked for it. */
    bool is_taken;             /* By the request that was answered with it, or lost. */
};

struct digest {
    raft_index index;
    uint64_t value;
};

struct sim__oracle {
    struct sim *sim;
    struct shard_machine inner;
    struct sim__model model;
    const struct sim__model *elsewhere; /* What a read of another thread sees; NULL: the present. */

    /* The batch that is frozen: where in the order it ends, and the model there. */
    bool is_frozen;
    uint64_t frozen_position;
    struct sim__model *frozen_model; /* NULL: of a replay, before all is executed again. */
    struct sim__model *stored_model; /* Of the newest batch that was written. */

    struct executed *order;
    uint64_t order_count;
    uint64_t order_capacity;
    uint64_t replay_position; /* The next command of the order that this life must execute. */
    uint64_t newest_position; /* Behind the last command that this life executed. */

    struct digest *digests;
    uint32_t digest_count;
    uint32_t digest_capacity;

    struct sim__transaction **transactions;
    uint32_t transaction_count;
    uint32_t transaction_capacity;

    struct list pending; /* struct sim__pending, in order of submission. */
    struct list lost;
};

static void grow(void **items, uint32_t *capacity, uint32_t count, size_t item_size_bytes)
{
    if (count == *capacity) {
        *capacity = *capacity == 0 ? 64 : *capacity * 2;
        *items = memory_resize(*items, *capacity * item_size_bytes);
    }
}

/* The name of an opcode for messages. */
static const char *name_of(uint16_t opcode)
{
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        if (kv_command_at(i)->opcode == opcode) {
            return kv_command_at(i)->name;
        }
    }
    return "internal";
}

static const struct kv_command *command_of(uint16_t opcode)
{
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        if (kv_command_at(i)->opcode == opcode) {
            return kv_command_at(i);
        }
    }
    return NULL;
}

static void say_mismatch(struct sim *sim, const char *what, const struct shard_command *command,
                         uint64_t version, struct bytes got, struct bytes wanted)
{
    struct buffer text = {0};
    for (uint32_t i = 0; i < command->argument_count && i < 6; i++) {
        struct bytes argument = command->arguments[i];
        buffer_append_byte(&text, ' ');
        buffer_append(
            &text, bytes_make(argument.data, argument.size_bytes < 40 ? argument.size_bytes : 40));
    }
    buffer_append_format(&text, " -> ");
    buffer_append(&text, bytes_make(got.data, got.size_bytes < 80 ? got.size_bytes : 80));
    buffer_append_format(&text, " model: ");
    buffer_append(&text, bytes_make(wanted.data, wanted.size_bytes < 80 ? wanted.size_bytes : 80));
    for (size_t i = 0; i < text.size_bytes; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~') {
            text.data[i] = '.';
        }
    }
    sim__fail(sim, "%s: %" PRIu64 ".%" PRIu64 " %s%.*s", what, version >> 16, version & 0xffff,
              name_of(command->opcode), (int)text.size_bytes, (const char *)text.data);
    buffer_deinit(&text);
}

static struct shard_command copy_of(const struct shard_command *command)
{
    struct bytes *arguments =
        memory_allocate((command->argument_count + 1u) * sizeof(struct bytes));
    for (uint32_t i = 0; i < command->argument_count; i++) {
        struct bytes argument = command->arguments[i];
        uint8_t *copy = memory_allocate(argument.size_bytes + 1);
        if (argument.size_bytes > 0) {
            memcpy(copy, argument.data, argument.size_bytes);
        }
        arguments[i] = bytes_make(copy, argument.size_bytes);
    }
    return (struct shard_command){command->opcode, command->argument_count, arguments};
}

static void copy_deinit(struct shard_command *copy)
{
    for (uint32_t i = 0; i < copy->argument_count; i++) {
        memory_free((void *)copy->arguments[i].data);
    }
    memory_free((void *)copy->arguments);
    *copy = (struct shard_command){0};
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static void transaction_destroy(struct sim__transaction *transaction)
{
    for (uint32_t i = 0; i < transaction->watched_count; i++) {
        memory_free((void *)transaction->watched[i].data);
    }
    for (uint32_t i = 0; i < transaction->part_count; i++) {
        for (uint32_t k = 0; k < transaction->parts[i].argument_count; k++) {
            memory_free((void *)transaction->parts[i].arguments[k].data);
        }
        memory_free(transaction->parts[i].arguments);
    }
    memory_free(transaction->watched);
    memory_free(transaction->versions);
    memory_free(transaction->parts);
    memory_free(transaction);
}

void sim__oracle_transaction(struct sim *sim, struct sim__transaction *transaction)
{
    struct sim__oracle *oracle = sim->oracle;
    grow((void **)&oracle->transactions, &oracle->transaction_capacity, oracle->transaction_count,
         sizeof(struct sim__transaction *));
    oracle->transactions[oracle->transaction_count++] = transaction;
}

static const struct sim__transaction *transaction_of(const struct sim__oracle *oracle,
                                                     uint64_t class_hash)
{
    for (uint32_t i = oracle->transaction_count; i > 0; i--) {
        if (oracle->transactions[i - 1]->arguments_hash == class_hash) {
            return oracle->transactions[i - 1];
        }
    }
    return NULL;
}

/* ---- Candidates of pending reads ------------------------------------------------------------- */

/* Replies that say how long a key has to live depend on the moment; only what they say of the key
 * counts. */
static uint64_t read_hash(const struct kv_command *command, struct bytes reply)
{
    bool is_time = command != NULL &&
                   (strcmp(command->name, "pttl") == 0 || strcmp(command->name, "ttl") == 0);
    if (is_time && reply.size_bytes > 1 && reply.data[0] == ':' && reply.data[1] != '-') {
        return 1;
    }
    return sim__reply_hash(command, reply);
}

static void answer_versions(const struct sim__model *model, const struct shard_command *command,
                            struct buffer *answer)
{
    for (uint32_t i = 0; i < command->argument_count; i++) {
        uint64_t version = sim__model_version(model, command->arguments[i]);
        buffer_append(answer, bytes_make(&version, sizeof version));
    }
}

/* What the model answers to a read at `time_ms`. The model may drop expired keys by it. */
static void model_read(struct sim__model *model, uint64_t time_ms,
                       const struct shard_command *command, const struct reply *reply)
{
    if (command->opcode == kv_versions_opcode()) {
        for (uint32_t i = 0; i < command->argument_count; i++) {
            (void)sim__model_find(model, command->arguments[i], time_ms);
        }
        answer_versions(model, command, reply->target);
    } else {
        bool is_known = sim__model_execute(model, time_ms, 0, command, reply);
        ASSERT(is_known);
    }
}

static void add_candidate(struct sim__oracle *oracle, struct sim__pending *pending)
{
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = pending->protocol};
    model_read(&oracle->model, oracle->model.time_ms, &pending->copy, &reply);
    uint64_t hash = read_hash(pending->command, buffer_bytes(&answer));
    buffer_deinit(&answer);
    uint32_t count = pending->candidate_count;
    if (count > 0 && pending->candidates[count - 1].reply_hash == hash) {
        return;
    }
    grow((void **)&pending->candidates, &pending->candidate_capacity, count,
         sizeof(struct candidate));
    pending->candidates[count] = (struct candidate){oracle->order_count, hash};
    pending->candidate_count = count + 1;
}

/* ---- The machine that the shard drives ------------------------------------------------------- */

static int machine_load(void *context, struct rows *rows, struct bytes saved, struct error *error)
{
    struct sim__oracle *oracle = context;
    return oracle->inner.load(oracle->inner.context, rows, saved, error);
}

static void machine_save(void *context, struct buffer *saved)
{
    struct sim__oracle *oracle = context;
    oracle->inner.save(oracle->inner.context, saved);
}

static int machine_prefetch(void *context, struct rows *rows, const struct shard_command *command,
                            uint64_t *load_size_bytes)
{
    struct sim__oracle *oracle = context;
    return oracle->inner.prefetch(oracle->inner.context, rows, command, load_size_bytes);
}

static bool machine_background(void *context, struct rows *rows, uint64_t time_ms,
                               struct shard_command *command, uint64_t *next_ms)
{
    struct sim__oracle *oracle = context;
    return oracle->inner.background(oracle->inner.context, rows, time_ms, command, next_ms);
}

/* Have the model execute a command of the order. False when it does not know it. */
static bool model_apply(struct sim__oracle *oracle, uint64_t time_ms, uint64_t version,
                        const struct shard_command *command, const struct reply *reply)
{
    const struct sim__transaction *transaction = transaction_of(oracle, sim__command_hash(command));
    bool is_known = true;
    if (transaction != NULL) {
        sim__model_transaction(&oracle->model, time_ms, version, transaction, reply);
    } else if (command->opcode == kv_versions_opcode()) {
        model_read(&oracle->model, time_ms, command, reply);
    } else {
        is_known = sim__model_execute(&oracle->model, time_ms, version, command, reply);
    }
    oracle->model.time_ms = time_ms;
    return is_known;
}

/* Versions are no reply of the protocol. */
static uint64_t said_hash(const struct shard_command *command, struct bytes reply)
{
    return command->opcode == kv_versions_opcode() ? hash_bytes(reply, 0)
                                                   : sim__content_hash(reply);
}

/* A command that the order does not have yet. */
static void join_order(struct sim__oracle *oracle, const struct shard_stamp *stamp,
                       const struct shard_command *command, struct bytes reply, uint8_t protocol)
{
    struct sim *sim = oracle->sim;
    if (oracle->order_count == oracle->order_capacity) {
        oracle->order_capacity = oracle->order_capacity == 0 ? 1024 : oracle->order_capacity * 2;
        oracle->order =
            memory_resize(oracle->order, oracle->order_capacity * sizeof(struct executed));
    }
    if (stamp->time_ms < oracle->model.time_ms) {
        sim__fail(sim, "stamp of entry %" PRIu64 " goes back from %" PRIu64 " to %" PRIu64,
                  stamp->version >> 16, oracle->model.time_ms, stamp->time_ms);
    }
    uint64_t class_hash = sim__command_hash(command);
    const struct kv_command *known = command_of(command->opcode);
    const struct sim__transaction *transaction = transaction_of(oracle, class_hash);
    struct buffer answer = {0};
    struct reply model_reply = {.target = &answer, .protocol = protocol};
    bool is_known = model_apply(oracle, stamp->time_ms, stamp->version, command, &model_reply);
    struct executed *executed = &oracle->order[oracle->order_count++];
    *executed = (struct executed){.version = stamp->version,
                                  .time_ms = stamp->time_ms,
                                  .class_hash = class_hash,
                                  .reply_hash = sim__reply_hash(known, reply),
                                  .said_hash = said_hash(command, reply)};
    if (sim->nature.log_flush_us > 0) {
        executed->copy = copy_of(command);
    }
    executed->is_wanted =
        transaction != NULL || (is_known && known != NULL && (known->flags & KV_FLAG_WRITE) != 0);
    if (is_known && sim__reply_hash(known, buffer_bytes(&answer)) != executed->reply_hash) {
        say_mismatch(sim, "the model answers otherwise", command, stamp->version, reply,
                     buffer_bytes(&answer));
    }
    buffer_deinit(&answer);
    oracle->replay_position = oracle->newest_position = oracle->order_count;
    LIST_EACH(member, next, &oracle->pending)
    {
        struct sim__pending *pending = LIST_ITEM(member, struct sim__pending, link);
        if (!pending->is_write && pending->answered_at == UINT64_MAX) {
            add_candidate(oracle, pending);
        }
    }
}

static void replay(struct sim__oracle *oracle, const struct shard_stamp *stamp,
                   const struct shard_command *command, struct bytes reply)
{
    struct executed *executed = &oracle->order[oracle->replay_position++];
    oracle->newest_position = oracle->replay_position;
    if (executed->version != stamp->version || executed->time_ms != stamp->time_ms ||
        executed->class_hash != sim__command_hash(command)) {
        sim__fail(oracle->sim,
                  "the log changed: %" PRIu64 ".%" PRIu64 " was executed, now %" PRIu64 ".%" PRIu64
                  " %s comes in its place",
                  executed->version >> 16, executed->version & 0xffff, stamp->version >> 16,
                  stamp->version & 0xffff, name_of(command->opcode));
    } else if (executed->said_hash != said_hash(command, reply)) {
        say_mismatch(oracle->sim, "another reply after a replay", command, stamp->version, reply,
                     BYTES("?"));
    }
}

static int machine_execute(void *context, struct rows *rows, const struct shard_stamp *stamp,
                           const struct shard_command *command, const struct reply *reply)
{
    struct sim__oracle *oracle = context;
    struct sim *sim = oracle->sim;
    size_t before = reply->target->size_bytes;
    int status = oracle->inner.execute(oracle->inner.context, rows, stamp, command, reply);
    if (status != 0 || sim->is_failed || !sim__node_is_alive(sim->node)) {
        return status != 0 ? status : sim__node_is_alive(sim->node) ? 0 : -EIO;
    }
    struct bytes answer =
        bytes_make(reply->target->data + before, reply->target->size_bytes - before);
    sim__note(sim, name_of(command->opcode), stamp->version >> 16, stamp->version & 0xffff,
              sim__reply_hash(command_of(command->opcode), answer));
    if (oracle->replay_position < oracle->order_count) {
        replay(oracle, stamp, command, answer);
    } else if (oracle->order_count > 0 &&
               stamp->version <= oracle->order[oracle->order_count - 1].version) {
        sim__fail(sim, "entry %" PRIu64 " is executed again, although the store has it",
                  stamp->version >> 16);
    } else {
        join_order(oracle, stamp, command, answer, reply->protocol);
    }
    return 0;
}

/* A read is exact: at this moment it sees this very state. */
static int machine_read(void *context, struct rows *rows, const struct shard_moment *moment,
                        const struct shard_command *command, const struct reply *reply)
{
    struct sim__oracle *oracle = context;
    struct sim *sim = oracle->sim;
    size_t before = reply->target->size_bytes;
    int status = oracle->inner.read(oracle->inner.context, rows, moment, command, reply);
    if (status != 0 || sim->is_failed || !sim__node_is_alive(sim->node)) {
        return status;
    }
    struct bytes answer =
        bytes_make(reply->target->data + before, reply->target->size_bytes - before);
    struct sim__model model;
    sim__model_init(&model);
    sim__model_copy(&model, oracle->elsewhere != NULL ? oracle->elsewhere : &oracle->model);
    struct buffer wanted = {0};
    struct reply model_reply = {.target = &wanted, .protocol = reply->protocol};
    model_read(&model, moment->durable_time_ms, command, &model_reply);
    const struct kv_command *known = command_of(command->opcode);
    if (sim__model_has_expired(&model, command, moment->time_ms)) {
        say_mismatch(sim, "a read saw an expired key, or that it is gone", command, 0, answer,
                     buffer_bytes(&wanted));
    } else if (read_hash(known, answer) != read_hash(known, buffer_bytes(&wanted))) {
        say_mismatch(sim, "the model reads otherwise", command, 0, answer, buffer_bytes(&wanted));
    }
    sim__model_deinit(&model);
    buffer_deinit(&wanted);
    return 0;
}

struct shard_machine sim__oracle_machine(struct sim__oracle *oracle, struct shard_machine machine)
{
    oracle->inner = machine;
    return (struct shard_machine){
        .context = oracle,
        .load = machine_load,
        .save = machine_save,
        .execute = machine_execute,
        .read = machine_read,
        .prefetch = machine_prefetch,
        .background = machine_background,
    };
}

static struct sim__model *model_copy(const struct sim__model *model)
{
    struct sim__model *copy = memory_allocate(sizeof *copy);
    sim__model_init(copy);
    sim__model_copy(copy, model);
    return copy;
}

static void model_free(struct sim__model **model)
{
    if (*model != NULL) {
        sim__model_deinit(*model);
        memory_free(*model);
    }
    *model = NULL;
}

struct sim__model *sim__oracle_keep(struct sim *sim)
{
    const struct sim__model *stored = sim->oracle->stored_model;
    return stored != NULL ? model_copy(stored) : NULL;
}

void sim__oracle_use(struct sim *sim, const struct sim__model *model)
{
    sim->oracle->elsewhere = model;
}

/* ---- Lives of the node ----------------------------------------------------------------------- */

static uint64_t content_hash(const struct sim *sim)
{
    static const uint8_t lower[1] = {0x10};
    static const uint8_t upper[1] = {0x11};
    uint64_t hash = memstore_hash(sim->memstore, bytes_make(lower, 1), bytes_make(upper, 1));
    return hash == 0 ? 1 : hash;
}

static void check_content(struct sim *sim, uint64_t position, const char *when)
{
    if (position == 0) {
        return;
    }
    struct executed *executed = &sim->oracle->order[position - 1];
    uint64_t hash = content_hash(sim);
    if (executed->content_hash == 0) {
        executed->content_hash = hash;
    } else if (executed->content_hash != hash) {
        sim__fail(sim, "%s: the store after %" PRIu64 ".%" PRIu64 " is not what it was", when,
                  executed->version >> 16, executed->version & 0xffff);
    }
}

void sim__oracle_started(struct sim *sim, raft_index applied)
{
    struct sim__oracle *oracle = sim->oracle;
    uint64_t position = oracle->order_count;
    while (position > 0 && oracle->order[position - 1].version >> 16 > applied) {
        position--;
    }
    oracle->is_frozen = false;
    model_free(&oracle->frozen_model);
    model_free(&oracle->stored_model);
    oracle->replay_position = oracle->newest_position = position;
    check_content(sim, position, "at start");
}

void sim__oracle_frozen(struct sim *sim)
{
    struct sim__oracle *oracle = sim->oracle;
    if (oracle->is_frozen) {
        return; /* It was refused, and comes again. */
    }
    oracle->is_frozen = true;
    oracle->frozen_position = oracle->newest_position;
    ASSERT(oracle->frozen_model == NULL);
    if (oracle->newest_position == oracle->order_count) {
        oracle->frozen_model = model_copy(&oracle->model);
    }
}

void sim__oracle_written(struct sim *sim)
{
    struct sim__oracle *oracle = sim->oracle;
    if (!oracle->is_frozen) {
        sim__oracle_frozen(sim);
    }
    check_content(sim, oracle->frozen_position, "after a batch");
    model_free(&oracle->stored_model);
    oracle->stored_model = oracle->frozen_model;
    oracle->frozen_model = NULL;
    oracle->is_frozen = false;
}

void sim__oracle_digest(struct sim *sim, raft_index index, uint64_t digest)
{
    struct sim__oracle *oracle = sim->oracle;
    for (uint32_t i = oracle->digest_count; i > 0 && oracle->digests[i - 1].index >= index; i--) {
        if (oracle->digests[i - 1].index == index) {
            if (oracle->digests[i - 1].value != digest) {
                sim__fail(sim, "the digest at index %" PRIu64 " is not what it was", index);
            }
            return;
        }
    }
    grow((void **)&oracle->digests, &oracle->digest_capacity, oracle->digest_count,
         sizeof(struct digest));
    uint32_t place = oracle->digest_count++;
    for (; place > 0 && oracle->digests[place - 1].index > index; place--) {
        oracle->digests[place] = oracle->digests[place - 1];
    }
    oracle->digests[place] = (struct digest){index, digest};
}

/* Keep the first commands of the order. */
static void order_cut(struct sim__oracle *oracle, uint64_t count)
{
    while (oracle->order_count > count) {
        copy_deinit(&oracle->order[--oracle->order_count].copy);
    }
}

void sim__oracle_forget(struct sim *sim, raft_index index)
{
    struct sim__oracle *oracle = sim->oracle;
    while (oracle->digest_count > 0 && oracle->digests[oracle->digest_count - 1].index > index) {
        oracle->digest_count--;
    }
    uint64_t count = oracle->order_count;
    while (count > 0 && oracle->order[count - 1].version >> 16 > index) {
        count--;
    }
    if (count == oracle->order_count) {
        return;
    }
    sim__note(sim, "order.lost", count, oracle->order_count - count, index);
    sim__clients_forget(sim);
    order_cut(oracle, count);
    sim__model_deinit(&oracle->model);
    sim__model_init(&oracle->model);
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = 2};
    for (uint64_t i = 0; i < count; i++) {
        const struct executed *executed = &oracle->order[i];
        buffer_clear(&answer);
        (void)model_apply(oracle, executed->time_ms, executed->version, &executed->copy, &reply);
    }
    buffer_deinit(&answer);
}

static void pending_end(struct sim__pending *pending)
{
    list_remove(&pending->link);
    copy_deinit(&pending->copy);
    memory_free(pending->candidates);
    memory_free(pending);
}

/* The lost request that asked for a command, or NULL. */
static struct sim__pending *find_lost(struct sim__oracle *oracle, uint64_t position)
{
    const struct executed *executed = &oracle->order[position];
    LIST_EACH(member, next, &oracle->lost)
    {
        struct sim__pending *pending = LIST_ITEM(member, struct sim__pending, link);
        if (pending->is_write && !pending->is_executed &&
            pending->class_hash == executed->class_hash && pending->submitted_at <= position) {
            return pending;
        }
    }
    return NULL;
}

/* Did only one lost request look like this one? Else it is not sure which of them was executed. */
static bool is_unique(const struct sim__oracle *oracle, const struct sim__pending *wanted)
{
    LIST_EACH(member, next, &oracle->lost)
    {
        const struct sim__pending *pending = LIST_ITEM(member, struct sim__pending, link);
        if (pending != wanted && pending->class_hash == wanted->class_hash) {
            return false;
        }
    }
    return true;
}

/* Of the requests that a session lost, a first part was executed and the rest was not. */
static void check_lost_sessions(struct sim *sim)
{
    const struct sim__oracle *oracle = sim->oracle;
    LIST_EACH(member, next, &oracle->lost)
    {
        const struct sim__pending *skipped = LIST_ITEM(member, struct sim__pending, link);
        if (!skipped->is_write || skipped->is_executed || !is_unique(oracle, skipped)) {
            continue;
        }
        for (struct list *later = member->next; later != &oracle->lost; later = later->next) {
            const struct sim__pending *pending = LIST_ITEM(later, struct sim__pending, link);
            if (pending->is_executed && is_unique(oracle, pending) &&
                pending->session_position == skipped->session_position) {
                sim__fail(sim, "a session's later request was executed and an earlier one (%s) not",
                          skipped->command != NULL ? skipped->command->name : "transaction");
            }
        }
    }
}

void sim__oracle_ready(struct sim *sim)
{
    struct sim__oracle *oracle = sim->oracle;
    if (oracle->replay_position < oracle->order_count) {
        sim__fail(sim, "%" PRIu64 " commands that were executed are lost, from %" PRIu64 " on",
                  oracle->order_count - oracle->replay_position,
                  oracle->order[oracle->replay_position].version >> 16);
        return;
    }
    /* In order of the log: the earliest of equal requests is taken first. */
    for (uint64_t i = 0; i < oracle->order_count && !sim->is_failed; i++) {
        struct executed *executed = &oracle->order[i];
        if (!executed->is_wanted || executed->is_taken) {
            continue;
        }
        struct sim__pending *asked = find_lost(oracle, i);
        executed->is_taken = true;
        if (asked == NULL) {
            sim__fail(sim, "%" PRIu64 ".%" PRIu64 " was executed and nobody asked for it",
                      executed->version >> 16, executed->version & 0xffff);
            return;
        }
        asked->is_executed = true;
    }
    check_lost_sessions(sim);
    /* What was not executed by now never will be. */
    while (!list_is_empty(&oracle->lost)) {
        pending_end(LIST_ITEM(oracle->lost.next, struct sim__pending, link));
    }
}

/* ---- Requests -------------------------------------------------------------------------------- */

struct sim__pending *sim__oracle_submit(struct sim *sim, const struct shard_request *request,
                                        uint64_t *session_position)
{
    const struct shard_command *command = &request->command;
    struct sim__oracle *oracle = sim->oracle;
    struct sim__pending *pending = memory_allocate_zeroed(1, sizeof *pending);
    list_init(&pending->link);
    pending->is_write = request->is_write;
    pending->protocol = request->protocol;
    pending->command = command_of(command->opcode);
    pending->class_hash = sim__command_hash(command);
    pending->submitted_at = oracle->order_count;
    pending->answered_at = UINT64_MAX;
    pending->session_position = session_position;
    list_push_back(&oracle->pending, &pending->link);
    if (!request->is_write) {
        pending->copy = copy_of(command);
        add_candidate(oracle, pending);
    }
    return pending;
}

void sim__oracle_refused(struct sim *sim, struct sim__pending *pending)
{
    (void)sim;
    pending_end(pending);
}

static void check_write(struct sim *sim, struct sim__pending *pending, struct bytes reply)
{
    struct sim__oracle *oracle = sim->oracle;
    uint64_t reply_hash = sim__reply_hash(pending->command, reply);
    uint64_t from = pending->submitted_at > *pending->session_position ? pending->submitted_at
                                                                       : *pending->session_position;
    bool is_first = true;
    for (uint64_t i = from; i < pending->answered_at; i++) {
        struct executed *executed = &oracle->order[i];
        if (executed->class_hash != pending->class_hash || executed->reply_hash != reply_hash) {
            continue;
        }
        if (is_first) {
            *pending->session_position = i;
            is_first = false;
        }
        if (!executed->is_taken) {
            executed->is_taken = true;
            return;
        }
    }
    sim__fail(sim, "a write was answered (%s, %.*s) that the log did not order since %" PRIu64,
              pending->command != NULL ? pending->command->name : "transaction",
              (int)(reply.size_bytes < 20 ? reply.size_bytes : 20), (const char *)reply.data,
              pending->submitted_at);
}

static void check_read(struct sim *sim, struct sim__pending *pending, struct bytes reply)
{
    uint64_t hash = read_hash(pending->command, reply);
    for (uint32_t i = 0; i < pending->candidate_count; i++) {
        const struct candidate *candidate = &pending->candidates[i];
        uint64_t until = i + 1 < pending->candidate_count ? candidate[1].position - 1 : UINT64_MAX;
        if (candidate->reply_hash == hash && until >= *pending->session_position) {
            if (candidate->position > *pending->session_position) {
                *pending->session_position = candidate->position;
            }
            return;
        }
    }
    sim__fail(sim, "a read was answered (%s, %.*s) with what was not true since %" PRIu64,
              pending->command != NULL ? pending->command->name : "versions",
              (int)(reply.size_bytes < 40 ? reply.size_bytes : 40), (const char *)reply.data,
              pending->submitted_at);
}

void sim__oracle_answered(struct sim *sim, struct sim__pending *pending)
{
    pending->answered_at = sim->oracle->order_count;
}

void sim__oracle_delivered(struct sim *sim, struct sim__pending *pending, struct bytes reply)
{
    if (pending->is_write) {
        check_write(sim, pending, reply);
    } else {
        check_read(sim, pending, reply);
    }
    pending_end(pending);
}

void sim__oracle_lost(struct sim *sim)
{
    list_append_all(&sim->oracle->lost, &sim->oracle->pending);
}

uint64_t sim__oracle_position(const struct sim *sim)
{
    return sim->oracle->order_count;
}

const struct sim__model *sim__oracle_model(const struct sim *sim)
{
    return &sim->oracle->model;
}

struct sim__oracle *sim__oracle_create(struct sim *sim)
{
    struct sim__oracle *oracle = memory_allocate_zeroed(1, sizeof *oracle);
    oracle->sim = sim;
    sim__model_init(&oracle->model);
    list_init(&oracle->pending);
    list_init(&oracle->lost);
    return oracle;
}

void sim__oracle_destroy(struct sim__oracle *oracle)
{
    list_append_all(&oracle->lost, &oracle->pending);
    while (!list_is_empty(&oracle->lost)) {
        pending_end(LIST_ITEM(oracle->lost.next, struct sim__pending, link));
    }
    for (uint32_t i = 0; i < oracle->transaction_count; i++) {
        transaction_destroy(oracle->transactions[i]);
    }
    memory_free(oracle->transactions);
    memory_free(oracle->digests);
    order_cut(oracle, 0);
    memory_free(oracle->order);
    model_free(&oracle->frozen_model);
    model_free(&oracle->stored_model);
    sim__model_deinit(&oracle->model);
    memory_free(oracle);
}
