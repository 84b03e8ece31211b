/* SPDX-License-Identifier: Apache-2.0 */
/* EXEC with RENAME, RENAMENX, COPY and MSETNX between shards, as src/gateway/resp/resp_evaluate.c does it: kv
 * says which keys have to be read; each is, in its shard; kv evaluates, and plans a transaction that fails
 * if one has changed since; then all is read again. Beside them are appends to lists and reads of them,
 * and a list may be watched.
 *
 * What the plan must be, and what is answered, the model says: a naive Redis of its own, into which
 * what was read is put. The ledger compares the parts, the client its replies. In the history each key
 * that is evaluated is GETSET, GETDEL or GET, between beginning and end. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "sim/sim_cluster.h"

enum {
    ATTEMPT_COUNT_MAX = 8,
    READ_COUNT_MAX = 12,
    DRAWN_OF_KEYS_MAX = 4,
    NOW_MS = 1000000, /* Of a key that does not expire it says nothing. */
};

/* What a key that is evaluated was and is. */
struct evaluated_key {
    struct bytes name; /* Borrowed from the reading. */
    bool was_there;
    bool was_read; /* Its value, too. */
    bool is_there;
    bool is_changed;
    struct bytes before; /* Borrowed from the content. */
    struct buffer after;
};

struct cluster_evaluating {
    struct cluster_question drawn[CLUSTER_DRAWN_COUNT_MAX];
    uint32_t drawn_count;
    struct cluster_watched watched; /* By the client; no key: nothing is. */
    struct kv_transaction *whole;
    struct kv_evaluation *evaluation;
    cluster_map map; /* By which it was made. */
    struct buffer contents[READ_COUNT_MAX];
    uint32_t read_count;
    struct buffer expected[CLUSTER_DRAWN_COUNT_MAX]; /* Replies of what is evaluated. */
    struct evaluated_key keys[READ_COUNT_MAX];
    uint32_t key_count;
};

/* ---- Drawing --------------------------------------------------------------------------------- */

static bool is_of_keys(const struct cluster_question *question)
{
    return !sim__cluster_question_is_of_lists(question);
}

static bool is_key(const struct cluster_question *question, uint32_t argument)
{
    static const char *const pairs[] = {"rename", "renamenx", "copy", "mget"};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (strcmp(question->command->name, pairs[i]) == 0) {
            return true;
        }
    }
    bool is_msetnx = strcmp(question->command->name, "msetnx") == 0;
    return argument == 0 || (is_msetnx && argument % 2 == 0);
}

/* For ever, by any map. */
static bool is_apart(struct cluster *cluster, const struct cluster_question *question)
{
    const struct slots *slots = sim__cluster_map(cluster, 0);
    bool is_apart = false;
    for (uint32_t i = 1; i < question->argument_count; i++) {
        is_apart |= is_key(question, i) &&
                    slots_shard_of(slots, kv_slot_of_key(question->arguments[0])) !=
                        slots_shard_of(slots, kv_slot_of_key(question->arguments[i]));
    }
    return is_apart && strcmp(question->command->name, "mget") != 0;
}

static bool have_common_key(const struct cluster_question *left,
                            const struct cluster_question *right)
{
    for (uint32_t i = 0; i < left->argument_count; i++) {
        for (uint32_t j = 0; j < right->argument_count; j++) {
            if (is_key(left, i) && is_key(right, j) &&
                bytes_equal(left->arguments[i], right->arguments[j])) {
                return true;
            }
        }
    }
    return false;
}

static void draw_of_keys(struct cluster *cluster, struct cluster_question *question)
{
    static const struct {
        const char *name;
        uint32_t key_count;
        bool has_values;
    } choices[] = {
        {"rename", 2, false}, {"renamenx", 2, false}, {"copy", 2, false}, {"msetnx", 2, true},
        {"rename", 2, false}, {"msetnx", 2, true},    {"mget", 2, false}, {"get", 1, false},
        {"set", 1, true},     {"append", 1, true},    {"del", 1, false},  {"strlen", 1, false},
    };
    uint64_t choice = random_below(&cluster->random, sizeof choices / sizeof choices[0]);
    *question =
        (struct cluster_question){.command = kv_command_find(bytes_of_text(choices[choice].name))};
    for (uint32_t i = 0; i < choices[choice].key_count; i++) {
        uint64_t number = random_below(&cluster->random, cluster->nature.key_count);
        sim__cluster_question_add_key(cluster, question, 'k', number);
        if (choices[choice].has_values) {
            sim__cluster_question_add_value(cluster, question);
        }
    }
}

/* Leave only those that have a key in common with one of those that are apart, directly or over others:
 * the history by key has no order within a transaction, but knows what became of such a key. */
static void keep_evaluated(struct cluster *cluster, struct cluster_evaluating *evaluating)
{
    bool is_kept[CLUSTER_DRAWN_COUNT_MAX] = {false};
    uint32_t count = evaluating->drawn_count;
    for (uint32_t round = 0; round <= count; round++) {
        for (uint32_t i = 0; i < count; i++) {
            is_kept[i] = is_kept[i] || is_apart(cluster, &evaluating->drawn[i]);
            for (uint32_t j = 0; j < count && !is_kept[i]; j++) {
                is_kept[i] =
                    is_kept[j] && have_common_key(&evaluating->drawn[i], &evaluating->drawn[j]);
            }
        }
    }
    evaluating->drawn_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (is_kept[i]) {
            evaluating->drawn[evaluating->drawn_count++] = evaluating->drawn[i];
        } else {
            sim__cluster_question_forget(&evaluating->drawn[i]);
        }
    }
}

/* At a random place. */
static void insert_of_list(struct cluster *cluster, struct cluster_evaluating *evaluating)
{
    uint64_t place = random_below(&cluster->random, evaluating->drawn_count + 1u);
    uint32_t list = (uint32_t)random_below(&cluster->random, cluster->nature.list_count);
    memmove(evaluating->drawn + place + 1, evaluating->drawn + place,
            (evaluating->drawn_count - place) * sizeof evaluating->drawn[0]);
    sim__cluster_list_question_draw(cluster, &evaluating->drawn[place], list, true);
    evaluating->drawn_count++;
}

bool sim__cluster_evaluate_draw(struct cluster *cluster, struct cluster_transaction *transaction)
{
    struct cluster_evaluating *evaluating = memory_allocate_zeroed(1, sizeof *evaluating);
    evaluating->drawn_count = 1 + (uint32_t)random_below(&cluster->random, DRAWN_OF_KEYS_MAX);
    for (uint32_t i = 0; i < evaluating->drawn_count; i++) {
        draw_of_keys(cluster, &evaluating->drawn[i]);
    }
    keep_evaluated(cluster, evaluating);
    transaction->evaluating = evaluating;
    if (evaluating->drawn_count == 0) {
        sim__cluster_evaluate_destroy(transaction);
        return false;
    }
    uint64_t list_count = random_below(&cluster->random, 3);
    if (evaluating->drawn_count == 1 && list_count == 0 &&
        strcmp(evaluating->drawn[0].command->name, "msetnx") == 0) {
        list_count = 1; /* Alone it is cut as it is. */
    }
    for (uint64_t i = 0; i < list_count; i++) {
        insert_of_list(cluster, evaluating);
    }
    return true;
}

bool sim__cluster_is_evaluated(const struct cluster_transaction *transaction)
{
    return transaction->evaluating != NULL;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void forget_reading(struct cluster_transaction *transaction)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    for (uint32_t i = 0; i < READ_COUNT_MAX; i++) {
        buffer_deinit(&evaluating->contents[i]);
        buffer_deinit(&evaluating->keys[i].after);
    }
    for (uint32_t i = 0; i < CLUSTER_DRAWN_COUNT_MAX; i++) {
        buffer_deinit(&evaluating->expected[i]);
    }
    for (uint32_t i = 0; i < transaction->command_count; i++) {
        sim__cluster_question_forget(&transaction->commands[i]);
    }
    kv_evaluation_destroy(evaluating->evaluation);
    kv_transaction_destroy(evaluating->whole);
    evaluating->evaluation = NULL;
    evaluating->whole = NULL;
    evaluating->read_count = 0;
    evaluating->key_count = 0;
    transaction->command_count = 0;
    transaction->watch_count = 0;
}

void sim__cluster_evaluate_destroy(struct cluster_transaction *transaction)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    if (evaluating != NULL) {
        forget_reading(transaction);
        for (uint32_t i = 0; i < evaluating->drawn_count; i++) {
            sim__cluster_question_forget(&evaluating->drawn[i]);
        }
        memory_free(evaluating);
        transaction->evaluating = NULL;
    }
}

static void begin(struct cluster *cluster, struct cluster_transaction *transaction, cluster_map map)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    if (transaction->is_watching && evaluating->watched.key.size_bytes == 0) {
        evaluating->watched = transaction->watches[0];
    }
    forget_reading(transaction);
    evaluating->map = map;
    evaluating->whole = kv_transaction_create();
    if (transaction->is_watching) {
        kv_transaction_watch(evaluating->whole, evaluating->watched.key,
                             evaluating->watched.version);
    }
    for (uint32_t i = 0; i < evaluating->drawn_count; i++) {
        const struct cluster_question *question = &evaluating->drawn[i];
        kv_transaction_add(evaluating->whole, question->command, question->arguments,
                           question->argument_count);
    }
    int status =
        kv_evaluation_create(&evaluating->evaluation, evaluating->whole, sim__cluster_group_of_slot,
                             (void *)(uintptr_t)sim__cluster_map(cluster, map));
    ASSERT(status == 0);
    ASSERT(kv_evaluation_read_count(evaluating->evaluation) <= READ_COUNT_MAX);
}

bool sim__cluster_evaluate_is_stale(const struct cluster_transaction *transaction, cluster_map map)
{
    return transaction->evaluating->evaluation == NULL || transaction->evaluating->map != map;
}

void sim__cluster_evaluate_read(struct cluster *cluster, struct cluster_transaction *transaction,
                                cluster_map map, struct cluster_question *question)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    if (sim__cluster_evaluate_is_stale(transaction, map)) {
        begin(cluster, transaction, map);
    }
    const struct bytes *arguments =
        kv_evaluation_read(evaluating->evaluation, evaluating->read_count);
    *question = (struct cluster_question){
        .command = kv_command_find(BYTES("get")), /* For its flags: a read. */
        .place = sim__cluster_place_of_key(cluster, arguments[0]),
        .started_at_us = cluster->now_us,
        .started_at = transaction->started_at,
    };
    sim__cluster_question_add(question, arguments[0]);
    sim__cluster_question_add(question, arguments[1]);
}

/* ---- What the plan must be ------------------------------------------------------------------- */

static void execute(struct sim__model *model, uint64_t version,
                    const struct cluster_question *question, struct buffer *answer)
{
    const struct reply reply = {.target = answer, .protocol = 2};
    const struct shard_command command = {question->command->opcode, question->argument_count,
                                          question->arguments};
    bool is_in_model = sim__model_execute(model, NOW_MS, version, &command, &reply);
    ASSERT(is_in_model);
}

static void add_command(struct cluster_transaction *transaction, struct bytes name,
                        const struct bytes *arguments, uint32_t count)
{
    ASSERT(transaction->command_count < CLUSTER_COMMAND_COUNT_MAX);
    struct cluster_question *command = &transaction->commands[transaction->command_count++];
    *command = (struct cluster_question){.command = kv_command_find(name)};
    for (uint32_t i = 0; i < count; i++) {
        sim__cluster_question_add(command, arguments[i]);
    }
}

/* Has the evaluation that key? */
static bool is_of_evaluated(const struct cluster_evaluating *evaluating, struct bytes key)
{
    for (uint32_t i = 0; i < evaluating->drawn_count; i++) {
        const struct cluster_question *question = &evaluating->drawn[i];
        for (uint32_t k = 0; k < question->argument_count && is_of_keys(question); k++) {
            if (is_key(question, k) && bytes_equal(question->arguments[k], key)) {
                return true;
            }
        }
    }
    return false;
}

static void load(struct cluster_transaction *transaction, struct sim__model *model)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    for (uint32_t i = 0; i < evaluating->read_count; i++) {
        struct bytes name = kv_evaluation_read(evaluating->evaluation, i)[0];
        struct cluster_content content =
            sim__cluster_content_of(buffer_bytes(&evaluating->contents[i]));
        transaction->watches[transaction->watch_count++] =
            (struct cluster_watched){name, content.version};
        if (!is_of_evaluated(evaluating, name)) {
            continue;
        }
        struct evaluated_key *key = &evaluating->keys[evaluating->key_count++];
        *key = (struct evaluated_key){
            .name = name,
            .was_there = content.version != 0,
            .was_read = !content.is_too_large,
            .before = content.value,
        };
        struct cluster_question set = {.command = kv_command_find(BYTES("set")),
                                       .arguments = {key->name, key->before},
                                       .argument_count = 2};
        struct buffer answer = {0};
        if (key->was_there) {
            execute(model, 1, &set, &answer);
        }
        buffer_deinit(&answer);
    }
}

static void add_effect(struct cluster_transaction *transaction, struct sim__model *model,
                       struct evaluated_key *key)
{
    uint64_t version = sim__model_version(model, key->name);
    key->is_there = version != 0;
    key->is_changed = version == 0 ? key->was_there : version != 1;
    if (!key->is_changed) {
        return;
    }
    if (!key->is_there) {
        add_command(transaction, BYTES("unlink"), &key->name, 1);
        return;
    }
    struct cluster_question get = {
        .command = kv_command_find(BYTES("get")), .arguments = {key->name}, .argument_count = 1};
    struct buffer answer = {0};
    execute(model, 2, &get, &answer);
    buffer_append(&key->after, sim__cluster_text_of(buffer_bytes(&answer)));
    buffer_deinit(&answer);
    const struct bytes set[] = {key->name, buffer_bytes(&key->after)};
    add_command(transaction, BYTES("set"), set, 2);
}

static void expect(struct cluster_transaction *transaction)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    struct sim__model model;
    sim__model_init(&model);
    load(transaction, &model);
    for (uint32_t i = 0; i < evaluating->drawn_count; i++) {
        const struct cluster_question *question = &evaluating->drawn[i];
        if (is_of_keys(question)) {
            execute(&model, 2, question, &evaluating->expected[i]);
        } else {
            add_command(transaction, bytes_of_text(question->command->name), question->arguments,
                        question->argument_count);
        }
    }
    for (uint32_t i = 0; i < evaluating->key_count; i++) {
        add_effect(transaction, &model, &evaluating->keys[i]);
    }
    sim__model_deinit(&model);
}

/* ---- Evaluating ------------------------------------------------------------------------------ */

static enum kv_evaluated evaluate(const struct cluster_evaluating *evaluating,
                                  struct kv_transaction *planned)
{
    struct bytes contents[READ_COUNT_MAX];
    for (uint32_t i = 0; i < evaluating->read_count; i++) {
        contents[i] = buffer_bytes(&evaluating->contents[i]);
    }
    const struct kv_evaluate given = {contents, NOW_MS, 2, planned};
    return kv_evaluate(evaluating->evaluation, &given);
}

/* All is read. */
static enum cluster_evaluated conclude(struct cluster *cluster,
                                       struct cluster_transaction *transaction)
{
    const struct cluster_evaluating *evaluating = transaction->evaluating;
    struct kv_transaction *planned = kv_transaction_create();
    enum kv_evaluated evaluated = evaluate(evaluating, planned);
    bool is_changed = false;
    kv_transaction_destroy(planned);
    for (uint32_t i = 0; i < evaluating->read_count && transaction->is_watching; i++) {
        struct cluster_content content =
            sim__cluster_content_of(buffer_bytes(&evaluating->contents[i]));
        is_changed |= bytes_equal(kv_evaluation_read(evaluating->evaluation, i)[0],
                                  evaluating->watched.key) &&
                      content.version != evaluating->watched.version;
    }
    if (evaluated != (is_changed ? KV_EVALUATED_CHANGED : KV_EVALUATED_COMMIT)) {
        sim__cluster_fail(cluster, "a transaction is evaluated to %u", evaluated);
        return CLUSTER_EVALUATED_ENDED;
    }
    if (is_changed) {
        PROBE("sim.evaluated_changed");
        return CLUSTER_EVALUATED_ENDED;
    }
    expect(transaction);
    return CLUSTER_EVALUATED_COMMIT;
}

enum cluster_evaluated sim__cluster_evaluate_answered(struct cluster *cluster,
                                                      struct cluster_transaction *transaction,
                                                      struct bytes reply)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    buffer_append(&evaluating->contents[evaluating->read_count++], reply);
    bool is_all = evaluating->read_count == kv_evaluation_read_count(evaluating->evaluation);
    return is_all ? conclude(cluster, transaction) : CLUSTER_EVALUATED_READ;
}

void sim__cluster_evaluate_plan(const struct cluster_transaction *transaction,
                                struct kv_transaction *planned)
{
    enum kv_evaluated evaluated = evaluate(transaction->evaluating, planned);
    ASSERT(evaluated == KV_EVALUATED_COMMIT);
}

/* ---- Its end --------------------------------------------------------------------------------- */

struct cluster_question *sim__cluster_evaluate_drawn(const struct cluster_transaction *transaction,
                                                     uint32_t index)
{
    struct cluster_evaluating *evaluating = transaction->evaluating;
    return index < evaluating->drawn_count ? &evaluating->drawn[index] : NULL;
}

void sim__cluster_evaluate_check(struct cluster *cluster,
                                 const struct cluster_transaction *transaction, uint32_t index,
                                 struct bytes reply)
{
    struct bytes expected = buffer_bytes(&transaction->evaluating->expected[index]);
    if (!bytes_equal(reply, expected)) {
        sim__cluster_fail(cluster, "the model answers %s otherwise: %.*s and not %.*s",
                          transaction->evaluating->drawn[index].command->name,
                          (int)reply.size_bytes, reply.data, (int)expected.size_bytes,
                          expected.data);
    }
}

/* The one operation that is what happened to the key. */
static void remember_key(struct cluster *cluster, const struct cluster_transaction *transaction,
                         const struct evaluated_key *key, enum cluster_knowledge knowledge)
{
    struct buffer was = {0};
    const char *name = !key->is_changed ? "get" : key->is_there ? "getset" : "getdel";
    if (!key->was_read) { /* What it had nobody knows. */
        name = !key->is_changed ? "exists" : key->is_there ? "set" : "del";
    }
    struct cluster_question question = {.command = kv_command_find(bytes_of_text(name))};
    sim__cluster_question_add(&question, key->name);
    if (key->is_changed && key->is_there) {
        sim__cluster_question_add(&question, buffer_bytes(&key->after));
    }
    if (!key->was_read) {
        buffer_append(&was, question.argument_count == 2 ? BYTES("+OK\r\n") : BYTES(":1\r\n"));
    } else if (!key->was_there) {
        buffer_append(&was, BYTES("$-1\r\n"));
    } else {
        buffer_append_format(&was, "$%zu\r\n", key->before.size_bytes);
        buffer_append(&was, key->before);
        buffer_append(&was, BYTES("\r\n"));
    }
    sim__cluster_move_remember(cluster, transaction, &question, buffer_bytes(&was), knowledge);
    buffer_deinit(&was);
}

void sim__cluster_evaluate_ended(struct cluster *cluster,
                                 const struct cluster_transaction *transaction,
                                 enum cluster_knowledge knowledge)
{
    const struct cluster_evaluating *evaluating = transaction->evaluating;
    for (uint32_t i = 0; i < evaluating->key_count; i++) {
        /* Its replies may be lost, but what it did is known. */
        remember_key(cluster, transaction, &evaluating->keys[i],
                     knowledge == CLUSTER_UNKNOWN ? CLUSTER_UNKNOWN : CLUSTER_DONE);
    }
}

bool sim__cluster_evaluate_again(struct cluster_transaction *transaction)
{
    forget_reading(transaction);
    return ++transaction->attempt_count < ATTEMPT_COUNT_MAX;
}
