/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: whatever bytes the log, the store or another node's reply hold, system refuses them or
 * keeps its invariants; what it decodes it encodes to the same bytes.
 *
 * The first byte of an input chooses: 0 the key of a row, 1 to 4 the value of a row of that kind, 5 a
 * reply, 6 the value of a row of a shard, anything else commands: each has an opcode less 2000 (1), a count (1), then a size (1) and
 * the bytes of each argument. A size of 255 stands for a digest made of the next byte. */
#include "base/assert/assert.h"
#include "service/system/system_world.h"

enum { ARGUMENT_COUNT_MAX = 32, COMMAND_COUNT_MAX = 64, STEP_MS = 50 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void fuzz_key(struct bytes input)
{
    struct system__row_name name;
    struct system__row row = {0};
    if (!system__row_parse(input, &name)) {
        return;
    }
    switch (name.kind) {
    case SYSTEM_ROW_SETTINGS:
        system__row_settings(&row);
        break;
    case SYSTEM_ROW_NODE:
        system__row_node(&row, (uint32_t)name.number);
        break;
    case SYSTEM_ROW_TOKEN:
        system__row_token(&row, &name.hash);
        break;
    case SYSTEM_ROW_AUDIT:
        system__row_audit(&row, name.number);
        break;
    case SYSTEM_ROW_SHARD:
        system__row_shard(&row, (wal_shard)name.number);
        break;
    }
    ASSERT(bytes_equal(row.key, input));
}

static void fuzz_value(uint8_t kind, struct bytes input)
{
    static const struct system_digest hash = {{1}};
    struct system__settings settings;
    struct system_node node;
    struct system__token token;
    struct system_audit audit;
    struct system__shard shard;
    struct buffer encoded = {0};
    if (kind == SYSTEM_ROW_SETTINGS && system__settings_decode(input, &settings) == 0) {
        system__settings_encode(&encoded, &settings);
    } else if (kind == SYSTEM_ROW_NODE && system__node_decode(input, 1, &node) == 0) {
        system__node_encode(&encoded, &node);
    } else if (kind == SYSTEM_ROW_TOKEN && system__token_decode(input, &hash, &token) == 0) {
        system__token_encode(&encoded, &token);
    } else if (kind == SYSTEM_ROW_AUDIT && system__audit_decode(input, 1, &audit) == 0) {
        system__audit_encode(&encoded, &audit);
    } else if (kind == SYSTEM_ROW_SHARD && system__shard_decode(input, 1, &shard) == 0) {
        system__shard_encode(&encoded, &shard);
    }
    ASSERT(encoded.size_bytes == 0 || bytes_equal(buffer_bytes(&encoded), input));
    buffer_deinit(&encoded);
}

static void fuzz_reply(struct bytes input)
{
    struct system_nodes nodes;
    struct system_tokens tokens;
    struct system_audits audits;
    struct system_settings settings;
    struct error error = {0};
    uint64_t number;
    if (system_reply_number(input, &number, &error) != 0) {
        ASSERT(error.code != 0);
    }
    if (system_reply_nodes(input, &nodes, &error) == 0) {
        system_nodes_deinit(&nodes);
    }
    if (system_reply_tokens(input, &tokens, &error) == 0) {
        system_tokens_deinit(&tokens);
    }
    if (system_reply_auditlog(input, &audits, &error) == 0) {
        system_audits_deinit(&audits);
    }
    (void)(system_reply_settings(input, &settings, &error) == 0);
}

static bool take(struct bytes *input, size_t size_bytes, struct bytes *taken)
{
    if (input->size_bytes < size_bytes) {
        return false;
    }
    *taken = bytes_make(input->data, size_bytes);
    *input = bytes_make(input->data + size_bytes, input->size_bytes - size_bytes);
    return true;
}

static bool take_command(struct bytes *input, struct shard_command *command,
                         struct bytes arguments[ARGUMENT_COUNT_MAX],
                         char digests[ARGUMENT_COUNT_MAX][2 * SYSTEM_DIGEST_SIZE_BYTES])
{
    struct bytes part;
    if (!take(input, 2, &part) || part.data[0] > 99 || part.data[1] > ARGUMENT_COUNT_MAX) {
        return false;
    }
    *command = (struct shard_command){(uint16_t)(SYSTEM_OPCODE_FIRST + part.data[0]), part.data[1],
                                      arguments};
    for (uint32_t i = 0; i < command->argument_count; i++) {
        if (!take(input, 1, &part)) {
            return false;
        }
        bool is_digest = part.data[0] == UINT8_MAX;
        if (!take(input, is_digest ? 1 : part.data[0], &arguments[i])) {
            return false;
        }
        if (is_digest) {
            memset(digests[i], arguments[i].data[0], sizeof digests[i]);
            arguments[i] = bytes_make(digests[i], sizeof digests[i]);
        }
    }
    return true;
}

static void fuzz_commands(struct bytes input)
{
    struct bytes arguments[ARGUMENT_COUNT_MAX];
    char digests[ARGUMENT_COUNT_MAX][2 * SYSTEM_DIGEST_SIZE_BYTES];
    struct shard_command command;
    struct buffer answer = {0};
    struct error error = {0};
    struct memstore *store = memstore_create(1);
    struct rows *rows = rows_create(memstore_interface(store), 1 << 20);
    struct system *system = system_create();
    struct shard_machine machine = system_machine_over(system, NULL);
    rows_set_tier(rows, ENV_TIER_DISK);
    ASSERT(machine.load(machine.context, rows, BYTES(""), &error) == 0);
    for (uint64_t i = 1;
         i <= COMMAND_COUNT_MAX && take_command(&input, &command, arguments, digests); i++) {
        struct shard_stamp stamp = {.time_ms = i * STEP_MS, .version = i << 16};
        struct reply reply = {.target = &answer, .protocol = 2};
        buffer_clear(&answer);
        int status = machine.execute(machine.context, rows, &stamp, &command, &reply);
        ASSERT(status == 0 || status == ERROR_NEWER_FORMAT);
        ASSERT(status != 0 || answer.size_bytes > 0);
        ASSERT(rows_commit(rows, NULL) == 0);
    }
    ASSERT(system_verify(memstore_interface(store), NULL, &error) == 0);
    struct system *again = system_create();
    machine = system_machine_over(again, NULL);
    ASSERT(machine.load(machine.context, rows, BYTES(""), &error) == 0);
    ASSERT(system__world_is_same(again, system));
    system_destroy(again);
    system_destroy(system);
    rows_destroy(rows);
    memstore_destroy(store);
    buffer_deinit(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes == 0) {
        return 0;
    }
    struct bytes input = bytes_make(data + 1, size_bytes - 1);
    switch (data[0]) {
    case 0:
        fuzz_key(input);
        break;
    case SYSTEM_ROW_SETTINGS:
    case SYSTEM_ROW_NODE:
    case SYSTEM_ROW_TOKEN:
    case SYSTEM_ROW_AUDIT:
        fuzz_value(data[0], input);
        break;
    case 6:
        fuzz_value(SYSTEM_ROW_SHARD, input);
        break;
    case 5:
        fuzz_reply(input);
        break;
    default:
        fuzz_commands(input);
    }
    return 0;
}
