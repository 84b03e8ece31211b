/* SPDX-License-Identifier: Apache-2.0 */
/* A transaction over several shards of which some commands depend, in one shard, on what another has:
 * RENAME, RENAMENX, COPY and MSETNX in MULTI.
 *
 * Those, and every command that has a key in common with one of them, directly or over others, are
 * *evaluated*: what their keys are and have is read, put into a machine in memory, and there they are
 * executed. What they answered, what they changed, and a watch of each key that was read make a
 * transaction that can be cut; the other commands are in it as they are. They share no key with what is
 * evaluated, so no effect has to stand before or behind one of them. Why this is right: the amendment of
 * docs/decisions/0013-transactions-across-shards.md. */
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "core/memstore/memstore.h"
#include "service/kv/kv_content.h"
#include "service/kv/kv_part.h"
#include "service/kv/kv_work.h"

enum {
    LOADED_VERSION = 1, /* Of what was read; what commands change has a later one. */
    LOADED_AT_MS = 1,   /* Nothing has expired by then. */
};

_Static_assert(2 * KV_EVALUATION_READ_SIZE_BYTES_MAX <= KV_EVALUATION_WORK_MAX,
               "strings that may be read may also be written again");

#define CACHE_SIZE_BYTES (UINT64_C(1) << 40)

struct key {
    struct bytes name;
    uint32_t above;    /* In its set; the first one: itself. */
    bool is_evaluated; /* Of the first one of a set. */
    bool is_whole;     /* More than its being there matters. */
    bool is_watched;   /* By the client. */
    bool is_torn;      /* Twice, and it has changed between. */
    uint64_t watched_version;
    struct kv__extent extent; /* In the machine. */
};

struct reading {
    uint32_t key;
    bool is_whole; /* What the key has is read, not only whether it is there. */
    struct bytes arguments[2];
};

struct kv_evaluation {
    struct kv_call call; /* Of the whole transaction. */
    struct kv__part part;
    struct key *keys;
    uint32_t key_count;
    uint32_t *places; /* By hash: the place of a key, and one; 0: free. */
    uint32_t place_count;
    struct reading *readings;
    uint32_t reading_count;
    uint64_t work; /* Done for it. */
};

/* ---- Which commands are evaluated ------------------------------------------------------------ */

static uint32_t key_of(struct kv_evaluation *evaluation, struct bytes name)
{
    uint64_t seed = (uintptr_t)evaluation; /* So that nobody can choose keys that collide. */
    uint32_t place = (uint32_t)hash_bytes(name, seed) & (evaluation->place_count - 1);
    while (evaluation->places[place] != 0) {
        if (bytes_equal(evaluation->keys[evaluation->places[place] - 1].name, name)) {
            return evaluation->places[place] - 1;
        }
        place = (place + 1) & (evaluation->place_count - 1);
    }
    uint32_t added = evaluation->key_count++;
    evaluation->keys[added] = (struct key){.name = name, .above = added};
    evaluation->places[place] = added + 1;
    return added;
}

static uint32_t first_of(struct kv_evaluation *evaluation, uint32_t key)
{
    struct key *keys = evaluation->keys;
    while (keys[key].above != key) {
        keys[key].above = keys[keys[key].above].above;
        key = keys[key].above;
    }
    return key;
}

static void unite(struct kv_evaluation *evaluation, uint32_t left, uint32_t right)
{
    struct key *first = &evaluation->keys[first_of(evaluation, left)];
    struct key *second = &evaluation->keys[first_of(evaluation, right)];
    second->above = first->above;
    first->is_evaluated |= second->is_evaluated;
}

struct look {
    struct kv_evaluation *evaluation;
    uint32_t (*group_of_slot)(void *context, uint32_t slot);
    void *context;
};

/* The keys of one command. */
struct visit {
    const struct look *look;
    const struct kv_call *call;
    uint32_t count;
    uint32_t first;
    uint32_t group;
    bool is_apart;
};

/* Does the command ask of this key no more than whether it is there, and put its own in its place? */
static bool is_blind(const struct kv_call *call, uint32_t number)
{
    static const char *const names[] = {"msetnx", "mset", "del", "unlink", "exists", "touch"};
    const struct kv_command *command = &call->entry->command;
    bool is_plain_set = kv__is_named(command, "set") && call->argument_count == 2;
    return is_plain_set || kv__is_one_of(command, names, sizeof names / sizeof names[0]) ||
           (kv_command_moves(command) && number == 1);
}

static bool visit_key(void *context, struct bytes name)
{
    struct visit *visit = context;
    const struct look *look = visit->look;
    struct kv_evaluation *evaluation = look->evaluation;
    uint32_t key = key_of(evaluation, name);
    evaluation->work += KV_WORK_OF_KEY;
    uint32_t group = look->group_of_slot(look->context, kv_slot_of_key(name));
    evaluation->keys[key].is_whole |= !is_blind(visit->call, visit->count);
    if (visit->count++ == 0) {
        visit->first = key;
        visit->group = group;
    }
    visit->is_apart |= group != visit->group;
    unite(evaluation, visit->first, key);
    return true;
}

/* False: nobody can cut it. */
static bool look_at_command(const struct look *look, const struct kv_call *call)
{
    struct kv_evaluation *evaluation = look->evaluation;
    const struct kv_command *command = &call->entry->command;
    enum kv__reach reach = kv__reach_of(call, NULL);
    evaluation->work += KV_WORK_OF_COMMAND;
    if (reach != KV__REACH_KEYS) {
        return reach == KV__REACH_NONE;
    }
    struct visit visit = {.look = look, .call = call};
    (void)kv__keys_visit(call, visit_key, &visit);
    if (visit.is_apart && (!kv_command_may_be_split(command) || kv__is_named(command, "msetnx"))) {
        evaluation->keys[first_of(evaluation, visit.first)].is_evaluated = true;
    }
    return true;
}

static bool look_at_all(const struct look *look)
{
    struct kv_evaluation *evaluation = look->evaluation;
    const struct kv_call *call = &evaluation->call;
    struct kv__part_cursor cursor = kv__part_begin(call, &evaluation->part);
    struct kv_call inner;
    bool can_be_cut = true;
    for (uint32_t i = 0; i < evaluation->part.watch_count; i++) {
        const struct bytes *watch = call->arguments + 1 + 2 * (size_t)i;
        struct key *key = &evaluation->keys[key_of(evaluation, watch[0])];
        uint64_t version = endian_get_u64_le(watch[1].data);
        key->is_torn |= key->is_watched && key->watched_version != version;
        key->is_watched = true;
        key->watched_version = version;
    }
    while (can_be_cut && kv__part_next(&cursor, call, &inner)) {
        can_be_cut = look_at_command(look, &inner);
    }
    return can_be_cut;
}

static bool is_evaluated(struct kv_evaluation *evaluation, uint32_t key)
{
    return evaluation->keys[first_of(evaluation, key)].is_evaluated;
}

static void list_readings(struct kv_evaluation *evaluation)
{
    evaluation->readings =
        memory_allocate((evaluation->key_count + 1u) * sizeof evaluation->readings[0]);
    for (uint32_t i = 0; i < evaluation->key_count; i++) {
        const struct key *key = &evaluation->keys[i];
        bool is_whole = key->is_whole && is_evaluated(evaluation, i);
        if (is_evaluated(evaluation, i) || key->is_watched) {
            evaluation->readings[evaluation->reading_count++] = (struct reading){
                i, is_whole, {key->name, is_whole ? KV_CONTENT_WHOLE : KV_CONTENT_NOTHING}};
        }
    }
}

int kv_evaluation_create(struct kv_evaluation **evaluation, struct kv_transaction *transaction,
                         uint32_t (*group_of_slot)(void *context, uint32_t slot), void *context)
{
    bool does_grow;
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    struct kv_evaluation *created = memory_allocate_zeroed(1, sizeof *created);
    created->call = (struct kv_call){
        .entry = kv__entry_of_opcode(command.opcode),
        .arguments = command.arguments,
        .argument_count = command.argument_count,
    };
    bool is_whole = kv__part_parse(&created->call, &created->part);
    ASSERT(is_whole);
    created->place_count = 16;
    while (created->place_count < 2 * command.argument_count) {
        created->place_count *= 2;
    }
    created->places = memory_allocate_zeroed(created->place_count, sizeof created->places[0]);
    created->keys = memory_allocate(command.argument_count * sizeof created->keys[0]);
    const struct look look = {created, group_of_slot, context};
    int status = look_at_all(&look) ? 0 : -EXDEV;
    if (status == 0) {
        list_readings(created);
        status = created->reading_count > KV_EVALUATION_READ_COUNT_MAX ? -E2BIG : 0;
    }
    if (status != 0) {
        kv_evaluation_destroy(created);
        return status;
    }
    *evaluation = created;
    return 0;
}

void kv_evaluation_destroy(struct kv_evaluation *evaluation)
{
    if (evaluation != NULL) {
        memory_free(evaluation->keys);
        memory_free(evaluation->places);
        memory_free(evaluation->readings);
        memory_free(evaluation);
    }
}

uint32_t kv_evaluation_read_count(const struct kv_evaluation *evaluation)
{
    return evaluation->reading_count;
}

const struct bytes *kv_evaluation_read(const struct kv_evaluation *evaluation, uint32_t index)
{
    ASSERT(index < evaluation->reading_count);
    return evaluation->readings[index].arguments;
}

uint64_t kv_evaluation_size_bytes(const struct kv_evaluation *evaluation)
{
    return sizeof *evaluation + evaluation->place_count * sizeof evaluation->places[0] +
           evaluation->call.argument_count * sizeof evaluation->keys[0] +
           evaluation->reading_count * sizeof evaluation->readings[0];
}

uint64_t kv_evaluation_work(const struct kv_evaluation *evaluation)
{
    return evaluation->work;
}

/* ---- What was read --------------------------------------------------------------------------- */

/* A run of it: what was read, and the machine. */
struct run {
    struct kv_evaluation *evaluation;
    const struct kv_evaluate *given;
    struct kv__content *contents; /* Of each reading. */
    uint64_t time_ms;
    uint64_t version;
    struct memstore *store;
    struct rows *rows;
    struct kv *kv;
    struct buffer answer;
    struct kv__work work;
    uint64_t answer_size_bytes; /* All answers. */
};

static struct kv__extent *extent_of(void *context, struct bytes name)
{
    struct kv_evaluation *evaluation = context;
    return &evaluation->keys[key_of(evaluation, name)].extent;
}

static enum kv_evaluated take_readings(struct run *run)
{
    const struct kv_evaluation *evaluation = run->evaluation;
    uint64_t size_bytes = 0;
    bool is_too_large = false;
    bool is_changed = false;
    for (uint32_t i = 0; i < evaluation->reading_count; i++) {
        const struct key *key = &evaluation->keys[evaluation->readings[i].key];
        struct kv__content *content = &run->contents[i];
        if (!kv__content_parse(run->given->contents[i], content)) {
            return KV_EVALUATED_MALFORMED;
        }
        is_changed |= key->is_torn || (key->is_watched && key->watched_version != content->version);
        is_too_large |= evaluation->readings[i].is_whole && content->type == KV_CONTENT_TOO_LARGE;
        size_bytes += content->rest.size_bytes;
        /* A shard gave it as living. */
        if (content->expire_ms != 0 && content->expire_ms <= run->time_ms) {
            run->time_ms = content->expire_ms - 1;
        }
    }
    if (is_changed) {
        return KV_EVALUATED_CHANGED;
    }
    return is_too_large || size_bytes > KV_EVALUATION_READ_SIZE_BYTES_MAX ? KV_EVALUATED_TOO_LARGE
                                                                          : KV_EVALUATED_COMMIT;
}

/* ---- The machine ----------------------------------------------------------------------------- */

static int execute(struct run *run, const struct shard_command *command, uint64_t time_ms)
{
    struct shard_machine machine = kv_machine(run->kv);
    const struct shard_stamp stamp = {.time_ms = time_ms, .version = run->version};
    const struct reply reply = {.target = &run->answer, .protocol = run->given->protocol};
    buffer_clear(&run->answer);
    return machine.execute(machine.context, run->rows, &stamp, command, &reply);
}

/* Add what brings a key into the machine. */
static enum kv_evaluated load_one(struct run *run, uint32_t index,
                                  struct kv_transaction *transaction)
{
    const struct reading *reading = &run->evaluation->readings[index];
    struct kv__extent *extent = &run->evaluation->keys[reading->key].extent;
    struct kv__content content = run->contents[index];
    if (content.type == KV_TYPE_NONE || !is_evaluated(run->evaluation, reading->key)) {
        return KV_EVALUATED_COMMIT;
    }
    if (content.type == KV_CONTENT_TOO_LARGE) {
        content.type = KV_TYPE_STRING; /* Nobody looks at it. */
    }
    if (!kv__content_extent(&content, extent)) {
        return KV_EVALUATED_MALFORMED;
    }
    if (!kv__work_add_extent(&run->work, extent)) {
        return KV_EVALUATED_TOO_LARGE;
    }
    return kv__content_add_writes(transaction, reading->arguments[0], &content)
               ? KV_EVALUATED_COMMIT
               : KV_EVALUATED_MALFORMED;
}

static enum kv_evaluated load(struct run *run)
{
    struct kv_transaction *transaction = kv_transaction_create();
    enum kv_evaluated evaluated = KV_EVALUATED_COMMIT;
    for (uint32_t i = 0; i < run->evaluation->reading_count && evaluated == KV_EVALUATED_COMMIT;
         i++) {
        evaluated = load_one(run, i, transaction);
    }
    bool does_grow;
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    run->version = LOADED_VERSION;
    if (evaluated == KV_EVALUATED_COMMIT && execute(run, &command, LOADED_AT_MS) != 0) {
        evaluated = KV_EVALUATED_MALFORMED;
    }
    kv_transaction_destroy(transaction);
    return evaluated;
}

static bool stop_at_key(void *context, struct bytes name)
{
    *(struct bytes *)context = name;
    return false;
}

static enum kv_evaluated run_command(struct run *run, const struct kv_call *call)
{
    struct kv_transaction *planned = run->given->planned;
    struct bytes key; /* Any of them. */
    if (kv__reach_of(call, NULL) != KV__REACH_KEYS || kv__keys_visit(call, stop_at_key, &key) ||
        !is_evaluated(run->evaluation, key_of(run->evaluation, key))) {
        kv_transaction_add(planned, &call->entry->command, call->arguments, call->argument_count);
        return KV_EVALUATED_COMMIT;
    }
    const struct shard_command command = {call->entry->command.opcode, call->argument_count,
                                          call->arguments};
    if (!kv__work_add_command(&run->work, call)) {
        return KV_EVALUATED_TOO_LARGE;
    }
    run->version++;
    if (execute(run, &command, run->time_ms) != 0) {
        return KV_EVALUATED_MALFORMED;
    }
    kv_transaction_add_answer(planned, buffer_bytes(&run->answer));
    run->answer_size_bytes += run->answer.size_bytes;
    return run->answer_size_bytes > KV_EVALUATION_ANSWER_SIZE_BYTES_MAX ? KV_EVALUATED_TOO_LARGE
                                                                        : KV_EVALUATED_COMMIT;
}

static enum kv_evaluated run_commands(struct run *run)
{
    const struct kv_evaluation *evaluation = run->evaluation;
    struct kv__part_cursor cursor = kv__part_begin(&evaluation->call, &evaluation->part);
    struct kv_call inner;
    enum kv_evaluated evaluated = KV_EVALUATED_COMMIT;
    while (evaluated == KV_EVALUATED_COMMIT && kv__part_next(&cursor, &evaluation->call, &inner)) {
        evaluated = run_command(run, &inner);
    }
    return evaluated;
}

/* ---- What it has changed --------------------------------------------------------------------- */

static enum kv_evaluated add_effect(struct run *run, uint32_t reading)
{
    struct kv_transaction *planned = run->given->planned;
    struct bytes name = run->evaluation->readings[reading].arguments[0];
    char limit[NUMBER_INTEGER_SIZE_MAX]; /* No more than the work allows. */
    const struct bytes arguments[] = {
        name, bytes_make(limit, number_format_integer(limit, KV_EVALUATION_WORK_MAX))};
    const struct shard_command command = {KV_OPCODE_CONTENT, 2, arguments};
    struct kv__content content;
    if (!kv__work_add_extent(&run->work, extent_of(run->evaluation, name))) {
        return KV_EVALUATED_TOO_LARGE;
    }
    run->version++;
    if (execute(run, &command, run->time_ms) != 0 ||
        !kv__content_parse(buffer_bytes(&run->answer), &content)) {
        return KV_EVALUATED_MALFORMED;
    }
    if (content.type == KV_TYPE_NONE && run->contents[reading].type != KV_TYPE_NONE) {
        kv_transaction_add(planned, kv_command_find(BYTES("unlink")), &name, 1);
    }
    if (content.type == KV_TYPE_NONE || content.version == LOADED_VERSION) {
        return KV_EVALUATED_COMMIT;
    }
    if (content.type == KV_CONTENT_TOO_LARGE) { /* The work would have been too much before. */
        return KV_EVALUATED_TOO_LARGE;
    }
    return kv__content_add_writes(planned, name, &content) ? KV_EVALUATED_COMMIT
                                                           : KV_EVALUATED_MALFORMED;
}

static enum kv_evaluated add_effects(struct run *run)
{
    enum kv_evaluated evaluated = KV_EVALUATED_COMMIT;
    kv_transaction_end_replies(run->given->planned);
    for (uint32_t i = 0; i < run->evaluation->reading_count && evaluated == KV_EVALUATED_COMMIT;
         i++) {
        const struct reading *reading = &run->evaluation->readings[i];
        const struct key *key = &run->evaluation->keys[reading->key];
        if (key->is_watched || i == 0 || !BUG("kv.evaluated_unwatched")) {
            kv_transaction_watch(run->given->planned, key->name, run->contents[i].version);
        }
        if (is_evaluated(run->evaluation, reading->key)) {
            evaluated = add_effect(run, i);
        }
    }
    return evaluated;
}

enum kv_evaluated kv_evaluate(struct kv_evaluation *evaluation, const struct kv_evaluate *given)
{
    struct run run = {
        .evaluation = evaluation,
        .given = given,
        .time_ms = given->time_ms,
        .work = {.extent_of = extent_of, .context = evaluation},
    };
    run.contents = memory_allocate((evaluation->reading_count + 1u) * sizeof run.contents[0]);
    enum kv_evaluated evaluated = take_readings(&run);
    if (evaluated == KV_EVALUATED_COMMIT) {
        run.store = memstore_create(1);
        run.rows = rows_create(memstore_interface(run.store), CACHE_SIZE_BYTES);
        run.kv = kv_create();
        evaluated = load(&run);
        evaluated = evaluated == KV_EVALUATED_COMMIT ? run_commands(&run) : evaluated;
        evaluated = evaluated == KV_EVALUATED_COMMIT ? add_effects(&run) : evaluated;
        rows_destroy(run.rows);
        kv_destroy(run.kv);
        memstore_destroy(run.store);
    }
    buffer_deinit(&run.answer);
    memory_free(run.contents);
    evaluation->work += run.work.done;
    return evaluated;
}
