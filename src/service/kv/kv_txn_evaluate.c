/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions with RENAME, RENAMENX, COPY and MSETNX between shards, as a gateway does them: read, evaluate,
 * commit what comes out. What they do are appends and reads of lists like all others, by way of keys that
 * are there within the transaction alone, each in another shard:
 *
 *   an append to a list   RENAME or RENAMENX list t; MSETNX list "" u ""; APPEND t element;
 *                         RENAME t list; DEL u
 *   a read of it          COPY list t; GET t; DEL t */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/kv/kv_txn_world_internal.h"

enum { READ_COUNT_MAX = 4 * KV__STEP_COUNT_MAX, COMMAND_OF_APPEND_COUNT = 5 };

struct kv__txn_evaluating {
    struct kv_transaction *whole;
    struct kv_evaluation *evaluation;
    struct buffer contents[READ_COUNT_MAX];
    uint32_t read_count;
    struct kv_split *split;
};

void kv__txn_evaluate_drop(struct client *client)
{
    struct kv__txn_evaluating *evaluating = client->evaluating;
    if (evaluating == NULL) {
        return;
    }
    for (uint32_t i = 0; i < evaluating->read_count; i++) {
        buffer_deinit(&evaluating->contents[i]);
    }
    kv_evaluation_destroy(evaluating->evaluation);
    kv_transaction_destroy(evaluating->whole);
    kv_split_destroy(evaluating->split);
    memory_free(evaluating);
    client->evaluating = NULL;
}

/* ---- What is queued -------------------------------------------------------------------------- */

static uint32_t group_of_slot(void *context, uint32_t slot)
{
    return kv__txn_world_shard_of_slot(context, slot);
}

static uint32_t shard_of_name(const struct txn_world *world, const char *name)
{
    return kv__txn_world_shard_of_slot(world, kv_slot_of_key(bytes_of_text(name)));
}

/* A key that no other client has, and that is not in the shard of the list. */
static void name_key(const struct client *client, const char *list, char kind, char name[16])
{
    const struct txn_world *world = client->world;
    uint32_t number = 0;
    do {
        (void)snprintf(name, 16, "%c%u:%u", kind, (unsigned)(client - world->clients), number++);
    } while (shard_of_name(world, name) == shard_of_name(world, list));
}

static void add(struct kv_transaction *transaction, const char *command, const char *const *words,
                uint32_t count)
{
    struct bytes arguments[4];
    for (uint32_t i = 0; i < count; i++) {
        arguments[i] = bytes_of_text(words[i]);
    }
    kv_transaction_add(transaction, kv_command_find(bytes_of_text(command)), arguments, count);
}

static void add_step(struct client *client, const struct kv__step *step)
{
    struct kv_transaction *whole = client->evaluating->whole;
    const char *list = client->world->keys[step->key];
    char t[16];
    char u[16];
    char element[32];
    name_key(client, list, 't', t);
    name_key(client, list, 'u', u);
    (void)snprintf(element, sizeof element, "%llu,", (unsigned long long)step->element);
    if (step->element == 0) {
        add(whole, "copy", (const char *[]){list, t}, 2);
        add(whole, "get", (const char *[]){t}, 1);
        add(whole, "del", (const char *[]){t}, 1);
    } else {
        add(whole, step->element % 2 == 0 ? "rename" : "renamenx", (const char *[]){list, t}, 2);
        add(whole, "msetnx", (const char *[]){list, "", u, ""}, 4);
        add(whole, "append", (const char *[]){t, element}, 2);
        add(whole, "rename", (const char *[]){t, list}, 2);
        add(whole, "del", (const char *[]){u}, 1);
    }
}

/* ---- Reading and evaluating ------------------------------------------------------------------ */

static void read_next(struct client *client)
{
    struct txn_world *world = client->world;
    const struct kv__txn_evaluating *evaluating = client->evaluating;
    const struct bytes *arguments =
        kv_evaluation_read(evaluating->evaluation, evaluating->read_count);
    const struct shard_command command = {kv_content_opcode(), 2, arguments};
    uint32_t shard = kv__txn_world_shard_of_slot(world, kv_slot_of_key(arguments[0]));
    client->request = kv__txn_world_send(world, shard, &command, false, NULL,
                                         (uint32_t)(client - world->clients));
}

void kv__txn_evaluate_begin(struct client *client, const struct kv__operation *operation)
{
    struct txn_world *world = client->world;
    struct kv__txn_evaluating *evaluating = memory_allocate_zeroed(1, sizeof *evaluating);
    client->evaluating = evaluating;
    evaluating->whole = kv_transaction_create();
    for (uint32_t i = 0; i < operation->step_count; i++) {
        const struct kv__step *step = &operation->steps[i];
        if (step->is_evaluated) {
            add_step(client, step);
        } else {
            kv__txn_client_add_step(client, evaluating->whole, step);
        }
    }
    int status =
        kv_evaluation_create(&evaluating->evaluation, evaluating->whole, group_of_slot, world);
    ASSERT(status == 0 && kv_evaluation_read_count(evaluating->evaluation) <= READ_COUNT_MAX);
    client->state = CLIENT_CONTENTS;
    read_next(client);
}

enum kv_evaluated kv__txn_evaluate_reply(struct client *client, struct bytes reply, bool *is_read)
{
    struct txn_world *world = client->world;
    struct kv__txn_evaluating *evaluating = client->evaluating;
    struct bytes contents[READ_COUNT_MAX];
    buffer_append(&evaluating->contents[evaluating->read_count++], reply);
    *is_read = evaluating->read_count == kv_evaluation_read_count(evaluating->evaluation);
    if (!*is_read) {
        read_next(client);
        return KV_EVALUATED_COMMIT;
    }
    for (uint32_t i = 0; i < evaluating->read_count; i++) {
        contents[i] = buffer_bytes(&evaluating->contents[i]);
    }
    struct kv_transaction *planned = kv_transaction_create();
    const struct kv_evaluate given = {contents, kv__txn_world_wall_ms(world), 2, planned};
    enum kv_evaluated evaluated = kv_evaluate(evaluating->evaluation, &given);
    if (evaluated == KV_EVALUATED_COMMIT) {
        int status = kv_split_create(&evaluating->split, planned, group_of_slot, world);
        ASSERT(status == 0);
    }
    kv_transaction_destroy(planned);
    return evaluated;
}

uint32_t kv__txn_evaluate_parts(const struct client *client, struct txn_part *parts)
{
    const struct kv_split *split = client->evaluating->split;
    uint32_t count = kv_split_part_count(split);
    ASSERT(count <= KV__SHARD_COUNT_MAX);
    for (uint32_t i = 0; i < count; i++) {
        parts[i] = kv_split_part(split, i);
    }
    return count;
}

/* ---- Replies --------------------------------------------------------------------------------- */

/* Of an append: what has to be so. The first reply depends on whether there was such a list. */
static bool take_append(struct bytes *replies)
{
    static const char *const expected[COMMAND_OF_APPEND_COUNT] = {NULL, ":1\r\n", NULL, "+OK\r\n",
                                                                  ":1\r\n"};
    bool is_right = true;
    for (uint32_t i = 0; i < COMMAND_OF_APPEND_COUNT && is_right; i++) {
        struct bytes reply;
        is_right = kv_reply_take(replies, &reply) &&
                   (expected[i] == NULL || bytes_equal(reply, bytes_of_text(expected[i])));
    }
    return is_right;
}

static bool take_read(struct bytes *replies, struct buffer *list)
{
    struct buffer none = {0};
    bool is_right = kv__txn_client_take_reply(replies, &none) &&
                    kv__txn_client_take_reply(replies, list) &&
                    kv__txn_client_take_reply(replies, &none) && none.size_bytes == 0;
    buffer_deinit(&none);
    return is_right;
}

static bool take_step(struct bytes *replies, struct kv__step *step)
{
    if (step->is_watched) {
        return true;
    }
    step->is_seen = step->element == 0;
    if (!step->is_evaluated) {
        return kv__txn_client_take_reply(replies, &step->list);
    }
    return step->element == 0 ? take_read(replies, &step->list) : take_append(replies);
}

bool kv__txn_evaluate_committed(struct client *client, struct kv__operation *operation,
                                const struct txn_done *done)
{
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    int64_t count;
    for (uint32_t i = 0; i < done->part_count; i++) {
        if (done->replies[i].data == NULL) {
            client->world->statistics.lost_replies_count++;
            return true;
        }
    }
    bool is_right = kv_split_join(client->evaluating->split, done->replies, true, &reply);
    struct bytes replies = buffer_bytes(&answer);
    is_right = is_right && kv_reply_take_number(&replies, '*', &count);
    for (uint32_t i = 0; i < operation->step_count && is_right; i++) {
        is_right = take_step(&replies, &operation->steps[i]);
    }
    is_right = is_right && replies.size_bytes == 0;
    buffer_deinit(&answer);
    return is_right;
}
