/* SPDX-License-Identifier: Apache-2.0 */
/* RENAME, RENAMENX and COPY between shards, as src/gateway/resp/resp_move.c does them: both keys are read,
 * each in its shard; kv plans a transaction that fails if they have changed since; then all is read again.
 *
 * In the history a RENAME is GETDEL of the one key and SET of the other, a RENAMENX one with SETNX, a COPY
 * GET and SETNX, both between beginning and end. That they are done together, and of what was read, is
 * the ledger's to see: it knows what is planned from here, not from kv. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"

enum { ATTEMPT_COUNT_MAX = 8, CONTENT_HEAD_SIZE_BYTES = 17, CONTENT_TOO_LARGE = 255 };

/* ---- Drawing --------------------------------------------------------------------------------- */

/* For ever, by any map. */
static bool are_apart(struct cluster *cluster, const struct bytes *keys)
{
    const struct slots *slots = sim__cluster_map(cluster, 0);
    return slots_shard_of(slots, kv_slot_of_key(keys[0])) !=
           slots_shard_of(slots, kv_slot_of_key(keys[1]));
}

bool sim__cluster_move_draw(struct cluster *cluster, struct cluster_transaction *transaction)
{
    static const char *const names[] = {"rename", "renamenx", "copy"};
    uint64_t source = random_below(&cluster->random, cluster->nature.key_count);
    uint64_t target = random_below(&cluster->random, cluster->nature.key_count);
    sim__cluster_question_add_key(cluster, &transaction->move, 'k', source);
    sim__cluster_question_add_key(cluster, &transaction->move, 'k', target);
    if (!are_apart(cluster, transaction->move.arguments)) {
        sim__cluster_question_forget(&transaction->move);
        return false;
    }
    const char *name = names[random_below(&cluster->random, 3)];
    transaction->move.command = kv_command_find(bytes_of_text(name));
    return true;
}

bool sim__cluster_is_move(const struct cluster_transaction *transaction)
{
    return transaction->move.command != NULL;
}

static bool is(const struct cluster_transaction *transaction, const char *name)
{
    return strcmp(transaction->move.command->name, name) == 0;
}

/* ---- Reading --------------------------------------------------------------------------------- */

void sim__cluster_move_read(struct cluster *cluster, const struct cluster_transaction *transaction,
                            uint32_t side, struct cluster_question *question)
{
    *question = (struct cluster_question){
        .command = kv_command_find(BYTES("get")), /* For its flags: a read. */
        .place = sim__cluster_place_of_key(cluster, transaction->move.arguments[side]),
        .started_at_us = cluster->now_us,
        .started_at = transaction->started_at,
    };
    sim__cluster_question_add(question, transaction->move.arguments[side]);
    sim__cluster_question_add(question, side == 0 ? KV_CONTENT_WHOLE : KV_CONTENT_NOTHING);
}

struct bytes sim__cluster_text_of(struct bytes answer)
{
    const uint8_t *end = memchr(answer.data, '\n', answer.size_bytes);
    ASSERT(answer.data[0] == '$' && end != NULL);
    size_t head = (size_t)(end - answer.data) + 1;
    return bytes_make(answer.data + head, answer.size_bytes - head - 2);
}

struct cluster_content sim__cluster_content_of(struct bytes answer)
{
    struct bytes content = sim__cluster_text_of(answer);
    ASSERT(content.size_bytes >= CONTENT_HEAD_SIZE_BYTES);
    return (struct cluster_content){
        .version = endian_get_u64_le(content.data),
        .is_too_large = content.data[16] == CONTENT_TOO_LARGE,
        .value = bytes_make(content.data + CONTENT_HEAD_SIZE_BYTES,
                            content.size_bytes - CONTENT_HEAD_SIZE_BYTES),
    };
}

static uint64_t version_of(const struct cluster_transaction *transaction, uint32_t side)
{
    return sim__cluster_content_of(buffer_bytes(&transaction->contents[side])).version;
}

static struct bytes value_of(const struct cluster_transaction *transaction)
{
    return sim__cluster_content_of(buffer_bytes(&transaction->contents[0])).value;
}

/* ---- Planning -------------------------------------------------------------------------------- */

enum kv_move sim__cluster_move_plan(const struct cluster_transaction *transaction,
                                    struct kv_transaction *queued, struct buffer *answer)
{
    const struct kv_move_request request = {
        .command = transaction->move.command,
        .arguments = transaction->move.arguments,
        .argument_count = 2,
        .source = buffer_bytes(&transaction->contents[0]),
        .target = buffer_bytes(&transaction->contents[1]),
    };
    const struct reply reply = {.target = answer, .protocol = 2};
    return kv_move_plan(&request, queued, &reply);
}

static void add_command(struct cluster_transaction *transaction, struct bytes name,
                        struct bytes key, const struct bytes *value)
{
    struct cluster_question *command = &transaction->commands[transaction->command_count++];
    *command = (struct cluster_question){.command = kv_command_find(name)};
    sim__cluster_question_add(command, key);
    if (value != NULL) {
        sim__cluster_question_add(command, *value);
    }
}

static void forget_plan(struct cluster_transaction *transaction)
{
    for (uint32_t i = 0; i < transaction->command_count; i++) {
        sim__cluster_question_forget(&transaction->commands[i]);
    }
    transaction->command_count = 0;
    transaction->watch_count = 0;
}

/* What the plan must be. */
static void expect(struct cluster_transaction *transaction)
{
    const struct bytes *keys = transaction->move.arguments;
    struct bytes value = value_of(transaction);
    bool does_replace = is(transaction, "rename");
    bool is_refused = !does_replace && version_of(transaction, 1) != 0;
    forget_plan(transaction);
    for (uint32_t i = 0; i < (does_replace ? 1u : 2u); i++) {
        transaction->watches[transaction->watch_count++] =
            (struct cluster_watched){keys[i], version_of(transaction, i)};
    }
    if (!is_refused) {
        add_command(transaction, BYTES("set"), keys[1], &value);
    }
    if (!is_refused && !is(transaction, "copy")) {
        add_command(transaction, BYTES("unlink"), keys[0], NULL);
    }
}

bool sim__cluster_move_is_read(struct cluster *cluster, struct cluster_transaction *transaction)
{
    struct buffer answer = {0};
    struct kv_transaction *queued = kv_transaction_create();
    enum kv_move plan = sim__cluster_move_plan(transaction, queued, &answer);
    kv_transaction_destroy(queued);
    buffer_deinit(&answer);
    if (plan == KV_MOVE_MALFORMED) {
        sim__cluster_fail(cluster, "what was read of a key is malformed");
        return true;
    }
    if (plan == KV_MOVE_COMMIT) {
        expect(transaction);
        return false;
    }
    sim__cluster_history_moment(cluster->history);
    if (version_of(transaction, 0) == 0) { /* Or it is too large: nobody knows what it is. */
        add_command(transaction, BYTES("get"), transaction->move.arguments[0], NULL);
        sim__cluster_move_remember(cluster, transaction, &transaction->commands[0],
                                   BYTES("$-1\r\n"), CLUSTER_DONE);
    }
    return true;
}

/* ---- Its end --------------------------------------------------------------------------------- */

void sim__cluster_move_remember(struct cluster *cluster,
                                const struct cluster_transaction *transaction,
                                struct cluster_question *question, struct bytes reply,
                                enum cluster_knowledge knowledge)
{
    question->session = transaction->session;
    question->started_at = transaction->started_at;
    sim__cluster_remember(cluster, question, reply, knowledge);
}

void sim__cluster_move_ended(struct cluster *cluster, struct cluster_transaction *transaction,
                             enum cluster_knowledge knowledge)
{
    const struct bytes *keys = transaction->move.arguments;
    struct bytes value = value_of(transaction);
    struct buffer was = {0};
    bool does_replace = is(transaction, "rename");
    bool is_refused = !does_replace && version_of(transaction, 1) != 0;
    buffer_append_format(&was, "$%zu\r\n", value.size_bytes);
    buffer_append(&was, value);
    buffer_append(&was, BYTES("\r\n"));
    sim__cluster_history_moment(cluster->history);
    forget_plan(transaction);
    bool does_stay = is_refused || is(transaction, "copy");
    add_command(transaction, does_stay ? BYTES("get") : BYTES("getdel"), keys[0], NULL);
    add_command(transaction, does_replace ? BYTES("set") : BYTES("setnx"), keys[1], &value);
    sim__cluster_move_remember(cluster, transaction, &transaction->commands[0], buffer_bytes(&was),
                               knowledge);
    sim__cluster_move_remember(cluster, transaction, &transaction->commands[1],
                               does_replace ? BYTES("+OK\r\n")
                               : is_refused ? BYTES(":0\r\n")
                                            : BYTES(":1\r\n"),
                               knowledge);
    buffer_deinit(&was);
}

bool sim__cluster_move_again(struct cluster_transaction *transaction)
{
    forget_plan(transaction);
    buffer_clear(&transaction->contents[0]);
    buffer_clear(&transaction->contents[1]);
    return ++transaction->attempt_count < ATTEMPT_COUNT_MAX;
}
