/* SPDX-License-Identifier: Apache-2.0 */
/* What callers do in transactions over several shards: appends to lists and reads of them, and now and
 * then something to the keys of everybody's single commands. Cut and joined as a gateway does. */
#include <inttypes.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"

enum { PATIENCE_MS = 2500 };

/* ---- Drawing --------------------------------------------------------------------------------- */

/* One for each key at most: the history by key has no order within a transaction. */
static bool take_key(const struct cluster *cluster, uint64_t *taken, char kind, uint64_t number)
{
    uint64_t bit = UINT64_C(1) << (number % cluster->nature.key_count + (kind == 'c' ? 32 : 0));
    bool is_free = (*taken & bit) == 0;
    *taken |= bit;
    return is_free;
}

static bool draw_of_keys(struct cluster *cluster, struct cluster_question *question,
                         uint64_t *taken)
{
    static const struct {
        const char *name;
        bool has_value;
        bool has_two_keys;
    } choices[] = {{"get", false, false},   {"set", true, false},    {"incr", false, false},
                   {"getset", true, false}, {"append", true, false}, {"del", false, false},
                   {"setnx", true, false},  {"mset", true, true},    {"mget", false, true}};
    uint64_t choice = random_below(&cluster->random, sizeof choices / sizeof choices[0]);
    char kind = strcmp(choices[choice].name, "incr") == 0 ? 'c' : 'k';
    uint64_t number = random_below(&cluster->random, cluster->nature.key_count);
    bool has_two_keys = choices[choice].has_two_keys && cluster->nature.key_count > 1;
    *question =
        (struct cluster_question){.command = kv_command_find(bytes_of_text(choices[choice].name))};
    for (uint64_t i = 0; i < 1u + has_two_keys; i++) {
        if (!take_key(cluster, taken, kind, number + i)) {
            sim__cluster_question_forget(question);
            return false;
        }
        sim__cluster_question_add_key(cluster, question, kind, number + i);
        if (choices[choice].has_value) {
            sim__cluster_question_add_value(cluster, question);
        }
    }
    return true;
}

static void draw_commands(struct cluster *cluster, struct cluster_transaction *transaction)
{
    uint64_t taken = 0;
    uint64_t count = 1 + random_below(&cluster->random, CLUSTER_DRAWN_COUNT_MAX - 1);
    for (uint64_t i = 0; i < count; i++) {
        struct cluster_question *question = &transaction->commands[transaction->command_count];
        if (random_chance(&cluster->random, 1, 5)) {
            transaction->command_count += draw_of_keys(cluster, question, &taken);
        } else {
            uint32_t list = (uint32_t)random_below(&cluster->random, cluster->nature.list_count);
            sim__cluster_list_question_draw(cluster, question, list, true);
            transaction->command_count++;
        }
    }
}

uint32_t sim__cluster_group_of_slot(void *slots, uint32_t slot)
{
    return slots_shard_of(slots, slot) - 1;
}

static void queue_commands(struct cluster_transaction *transaction)
{
    for (uint32_t i = 0; i < transaction->watch_count; i++) {
        kv_transaction_watch(transaction->queued, transaction->watches[i].key,
                             transaction->watches[i].version);
    }
    for (uint32_t i = 0; i < transaction->command_count; i++) {
        const struct cluster_question *question = &transaction->commands[i];
        kv_transaction_add(transaction->queued, question->command, question->arguments,
                           question->argument_count);
    }
}

static void queue(struct cluster *cluster, struct cluster_transaction *transaction, cluster_map map)
{
    transaction->map = map;
    transaction->queued = kv_transaction_create();
    if (sim__cluster_is_move(transaction)) {
        struct buffer answer = {0};
        (void)sim__cluster_move_plan(transaction, transaction->queued, &answer);
        buffer_deinit(&answer);
    } else if (sim__cluster_is_evaluated(transaction)) {
        sim__cluster_evaluate_plan(transaction, transaction->queued);
    } else {
        queue_commands(transaction);
    }
    int status =
        kv_split_create(&transaction->split, transaction->queued, sim__cluster_group_of_slot,
                        (void *)(uintptr_t)sim__cluster_map(cluster, map));
    ASSERT(status == 0);
}

static void unqueue(struct cluster_transaction *transaction)
{
    kv_split_destroy(transaction->split);
    kv_transaction_destroy(transaction->queued);
    transaction->split = NULL;
    transaction->queued = NULL;
}

/* All in one shard is no transaction of several: another command, in the next. What was in several when it
 * began is so for ever. */
static void spread(struct cluster *cluster, struct cluster_transaction *transaction)
{
    uint32_t place = 0;
    queue(cluster, transaction, 0);
    uint32_t count = kv_split_part_count(transaction->split);
    if (count > 0) {
        place = slots_shard_of(sim__cluster_map(cluster, 0),
                               kv_split_part(transaction->split, 0).place) -
                1;
    }
    unqueue(transaction);
    buffer_deinit(&transaction->watched_content);
    for (; count < 2; count++) {
        place = (place + 1) % cluster->nature.shard_count;
        sim__cluster_list_question_draw(cluster,
                                        &transaction->commands[transaction->command_count++],
                                        sim__cluster_list_in(cluster, place), true);
    }
}

static void draw_watch(struct cluster *cluster, struct cluster_transaction *transaction)
{
    transaction->is_watching = sim__cluster_percent(cluster, cluster->nature.watch_percent);
    if (transaction->is_watching) {
        transaction->watched_list =
            (uint32_t)random_below(&cluster->random, cluster->nature.list_count);
        transaction->watches[0].key =
            sim__cluster_list_key(cluster->lists, transaction->watched_list);
        transaction->watch_count = 1;
    }
}

struct cluster_transaction *sim__cluster_transaction_draw(struct cluster *cluster, uint64_t session)
{
    struct cluster_transaction *transaction = memory_allocate_zeroed(1, sizeof *transaction);
    transaction->session = session;
    cluster->result->request_count++;
    transaction->started_at = sim__cluster_history_moment(cluster->history);
    if (sim__cluster_percent(cluster, cluster->nature.move_percent) &&
        sim__cluster_move_draw(cluster, transaction)) {
        return transaction;
    }
    bool is_evaluated = sim__cluster_percent(cluster, cluster->nature.evaluate_percent) &&
                        sim__cluster_evaluate_draw(cluster, transaction);
    if (!is_evaluated) {
        draw_commands(cluster, transaction);
        spread(cluster, transaction);
    }
    draw_watch(cluster, transaction);
    return transaction;
}

void sim__cluster_transaction_destroy(struct cluster_transaction *transaction)
{
    if (transaction == NULL) {
        return;
    }
    unqueue(transaction);
    sim__cluster_evaluate_destroy(transaction);
    buffer_deinit(&transaction->watched_content);
    buffer_deinit(&transaction->contents[0]);
    buffer_deinit(&transaction->contents[1]);
    sim__cluster_question_forget(&transaction->move);
    for (uint32_t i = 0; i < transaction->command_count; i++) {
        sim__cluster_question_forget(&transaction->commands[i]);
    }
    memory_free(transaction);
}

/* From what was read; a mistake may leave one part. */
static bool is_planned(const struct cluster_transaction *transaction)
{
    return sim__cluster_is_move(transaction) || sim__cluster_is_evaluated(transaction);
}

int sim__cluster_transaction_begin(struct cluster *cluster, struct cluster_transaction *transaction,
                                   struct cluster_node *node, void *context,
                                   void (*done)(void *context, const struct txn_done *done))
{
    struct txn_part parts[CLUSTER_SHARD_COUNT_MAX];
    unqueue(transaction); /* An earlier attempt. */
    queue(cluster, transaction, sim__cluster_node_map(node));
    const struct slots *slots = sim__cluster_map(cluster, transaction->map);
    uint32_t count = kv_split_part_count(transaction->split);
    ASSERT(count > (is_planned(transaction) ? 0 : 1) && count <= CLUSTER_SHARD_COUNT_MAX);
    for (uint32_t i = 0; i < count; i++) {
        parts[i] = kv_split_part(transaction->split, i);
        const struct slots_range *range = &slots->ranges[slots_place_of(slots, parts[i].place)];
        bool is_named = !sim__cluster_node_is_older(node);
        parts[i].first_slot = is_named ? (uint16_t)range->first : 0;
        parts[i].end_slot = is_named ? (uint16_t)range->end : 0;
    }
    transaction->begun_at_us = cluster->now_us;
    sim__cluster_ledger_expect(cluster, transaction);
    const struct txn_begin begin = {
        .parts = parts,
        .part_count = count,
        .protocol = 2, /* The checker knows no other. */
        .context = context,
        .done = done,
    };
    int status = txn_begin(sim__cluster_node_coordinator(node), &begin);
    if (status != 0) {
        unqueue(transaction);
    }
    return status;
}

/* ---- Its end --------------------------------------------------------------------------------- */

/* NULL: there are no more. */
static struct cluster_question *command_at(struct cluster_transaction *transaction, uint32_t index)
{
    if (sim__cluster_is_evaluated(transaction)) {
        return sim__cluster_evaluate_drawn(transaction, index);
    }
    return index < transaction->command_count ? &transaction->commands[index] : NULL;
}

/* `replies`: what EXEC answers, without its first line. */
static void remember(struct cluster *cluster, struct cluster_transaction *transaction,
                     struct bytes replies, enum cluster_knowledge knowledge)
{
    struct cluster_observation observation = {
        .operation = {.session = transaction->session, .started_at = transaction->started_at}};
    sim__cluster_history_moment(cluster->history);
    if (transaction->is_watching) {
        sim__cluster_observe_watched(&observation, transaction->watched_list,
                                     buffer_bytes(&transaction->watched_content));
    }
    struct cluster_question *question;
    for (uint32_t i = 0; (question = command_at(transaction, i)) != NULL; i++) {
        question->session = transaction->session;
        question->started_at = transaction->started_at;
        struct bytes reply = BYTES("");
        bool is_whole = knowledge != CLUSTER_DONE || kv_reply_take(&replies, &reply);
        if (!is_whole) {
            sim__cluster_fail(cluster, "a transaction has too few replies");
            knowledge = CLUSTER_DONE_ONLY;
        }
        if (sim__cluster_question_is_of_lists(question)) {
            sim__cluster_observe(cluster, &observation, question, reply, knowledge);
        } else if (sim__cluster_is_evaluated(transaction)) {
            if (knowledge == CLUSTER_DONE) {
                sim__cluster_evaluate_check(cluster, transaction, i, reply);
            }
        } else {
            sim__cluster_remember(cluster, question, reply, knowledge);
        }
    }
    if (knowledge == CLUSTER_DONE && replies.size_bytes > 0) {
        sim__cluster_fail(cluster, "a transaction has too many replies");
    }
    if (sim__cluster_is_evaluated(transaction)) {
        sim__cluster_evaluate_ended(cluster, transaction, knowledge);
    }
    sim__cluster_observed(cluster, &observation, knowledge);
}

static void remember_unknown(struct cluster *cluster, struct cluster_transaction *transaction)
{
    if (sim__cluster_is_move(transaction)) {
        sim__cluster_move_ended(cluster, transaction, CLUSTER_UNKNOWN);
    } else {
        remember(cluster, transaction, BYTES(""), CLUSTER_UNKNOWN);
    }
}

static void committed(struct cluster *cluster, struct cluster_transaction *transaction,
                      const struct txn_done *done)
{
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    bool are_all_there = true;
    for (uint32_t i = 0; i < done->part_count; i++) {
        are_all_there = are_all_there && done->replies[i].data != NULL;
    }
    if (!are_all_there) {
        remember(cluster, transaction, BYTES(""), CLUSTER_DONE_ONLY);
    } else if (!kv_split_join(transaction->split, done->replies, true, &reply)) {
        sim__cluster_fail(cluster, "the replies of a transaction are malformed");
    } else {
        const uint8_t *end = memchr(answer.data, '\n', answer.size_bytes);
        size_t used = (size_t)(end + 1 - answer.data);
        remember(cluster, transaction, bytes_make(end + 1, answer.size_bytes - used), CLUSTER_DONE);
    }
    buffer_deinit(&answer);
}

/* What dead coordinators have left is recovered by then, and there is a leader everywhere. */
uint64_t sim__cluster_transactions_are_well_at_us(const struct cluster *cluster)
{
    const struct cluster_nature *nature = &cluster->nature;
    return cluster->healed_at_us + 1000000 +
           1000u * (nature->recovery_age_ms + nature->recovery_look_ms);
}

/* All is well, there is time enough, and others hold the keys: nobody may have to give up. Where clocks
 * were wrong it takes until they are right again. */
static void check_fairness(struct cluster *cluster, const struct cluster_transaction *transaction,
                           const struct txn_done *done)
{
    const struct cluster_nature *nature = &cluster->nature;
    bool is_well = cluster->is_healing && nature->wall_jump_every_us == 0 && !nature->does_split &&
                   transaction->begun_at_us > sim__cluster_transactions_are_well_at_us(cluster);
    bool is_patient =
        nature->transaction_deadline_ms >= PATIENCE_MS && nature->deadline_ms >= PATIENCE_MS;
    if (is_well && is_patient && done->status == -EBUSY) {
        sim__cluster_fail(cluster, "a transaction of session %" PRIu64 " does not get its turn",
                          transaction->session);
    }
}

void sim__cluster_transaction_done(struct cluster *cluster, struct cluster_transaction *transaction,
                                   const struct txn_done *done)
{
    sim__cluster_note(cluster, "transaction.done", transaction->session, transaction->started_at,
                      (uint64_t)done->result);
    switch (done->result) {
    case TXN_COMMITTED:
        if (sim__cluster_is_move(transaction)) {
            sim__cluster_move_ended(cluster, transaction, CLUSTER_DONE);
        } else {
            committed(cluster, transaction, done);
        }
        return;
    case TXN_CHANGED:
        return;
    case TXN_FAILED:
        check_fairness(cluster, transaction, done);
        return;
    case TXN_UNKNOWN:
        remember_unknown(cluster, transaction);
        return;
    }
}

void sim__cluster_transaction_unknown(struct cluster *cluster,
                                      struct cluster_transaction *transaction, uint64_t session)
{
    transaction->session = session; /* It may take effect behind what its session does next. */
    remember_unknown(cluster, transaction);
}
