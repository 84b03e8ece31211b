/* SPDX-License-Identifier: Apache-2.0 */
/* Building commands. What is wrong with a value is found where it is executed. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "service/system/system_internal.h"

enum { NUMBER_COUNT_MAX = 4, DIGEST_COUNT_MAX = 2 };

bool system_is_opcode(uint16_t opcode)
{
    return opcode >= SYSTEM_OPCODE_FIRST && opcode <= SYSTEM_OPCODE_LAST;
}

bool system_is_write(uint16_t opcode)
{
    return opcode >= SYSTEM_OPCODE_FIRST && opcode < SYSTEM_OPCODE_READ_FIRST;
}

static void begin(struct system_command *command, uint16_t opcode)
{
    *command = (struct system_command){.is_write = system_is_write(opcode)};
    command->command.opcode = opcode;
    command->command.arguments = command->arguments;
}

static void add(struct system_command *command, enum system__field field, const char *text)
{
    uint32_t count = command->command.argument_count;
    ASSERT(count + 2 <= SYSTEM_ARGUMENT_COUNT_MAX);
    command->arguments[count] = bytes_of_text(system__field_name(field));
    command->arguments[count + 1] = bytes_of_text(text);
    command->command.argument_count = count + 2;
}

static void add_number(struct system_command *command, enum system__field field, uint64_t value)
{
    for (uint32_t i = 0; i < NUMBER_COUNT_MAX; i++) {
        char *text = command->numbers[i];
        if (text[0] == '\0') {
            (void)snprintf(text, sizeof command->numbers[i], "%" PRIu64, value);
            add(command, field, text);
            return;
        }
    }
    ASSERT(false);
}

static void add_digest(struct system_command *command, enum system__field field,
                       const struct system_digest *digest)
{
    for (uint32_t i = 0; i < DIGEST_COUNT_MAX; i++) {
        char *text = command->digests[i];
        if (text[0] == '\0') {
            system__digest_format(digest, text);
            add(command, field, text);
            return;
        }
    }
    ASSERT(false);
}

static void add_facts(struct system_command *command, const struct system_node_facts *facts)
{
    const struct {
        enum system__field field;
        const char *text;
    } texts[] = {
        {SYSTEM_FIELD_PEER, facts->peer},         {SYSTEM_FIELD_REDIS, facts->redis},
        {SYSTEM_FIELD_ADMIN, facts->admin},       {SYSTEM_FIELD_ZONE, facts->zone},
        {SYSTEM_FIELD_SOFTWARE, facts->software},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].text != NULL) {
            add(command, texts[i].field, texts[i].text);
        }
    }
    if (facts->feature_max != 0) {
        add_number(command, SYSTEM_FIELD_FEATURE, facts->feature_max);
    }
    if (facts->key != NULL) {
        add_digest(command, SYSTEM_FIELD_KEY, facts->key);
    }
}

void system_bootstrap_command(struct system_command *command, const struct system_birth *birth,
                              const struct system_node_facts *facts)
{
    begin(command, SYSTEM_OPCODE_BOOTSTRAP);
    add(command, SYSTEM_FIELD_CLUSTER, birth->cluster);
    if (birth->replicas != 0) {
        add_number(command, SYSTEM_FIELD_REPLICAS, birth->replicas);
    }
    if (birth->shard_count > 1) {
        add_number(command, SYSTEM_FIELD_SHARDS, birth->shard_count);
    }
    add_facts(command, facts);
}

void system_token_add_command(struct system_command *command, const struct system_digest *hash,
                              uint64_t ttl_ms, uint32_t uses)
{
    begin(command, SYSTEM_OPCODE_TOKENADD);
    add_digest(command, SYSTEM_FIELD_TOKEN, hash);
    add_number(command, SYSTEM_FIELD_TTL, ttl_ms);
    add_number(command, SYSTEM_FIELD_USES, uses);
}

void system_join_command(struct system_command *command, const struct system_digest *hash,
                         const struct system_node_facts *facts)
{
    begin(command, SYSTEM_OPCODE_JOIN);
    add_digest(command, SYSTEM_FIELD_TOKEN, hash);
    add_facts(command, facts);
}

void system_node_set_command(struct system_command *command, uint32_t node,
                             const struct system_node_facts *facts)
{
    begin(command, SYSTEM_OPCODE_NODESET);
    add_number(command, SYSTEM_FIELD_NODE, node);
    add_facts(command, facts);
}

void system_node_state_command(struct system_command *command, uint32_t node,
                               enum system_node_state state)
{
    begin(command, SYSTEM_OPCODE_NODESTATE);
    add_number(command, SYSTEM_FIELD_NODE, node);
    add(command, SYSTEM_FIELD_STATE, system_node_state_name(state));
}

void system_setting_command(struct system_command *command, uint32_t replicas, uint32_t feature)
{
    begin(command, SYSTEM_OPCODE_SETTING);
    if (replicas != 0) {
        add_number(command, SYSTEM_FIELD_REPLICAS, replicas);
    }
    if (feature != 0) {
        add_number(command, SYSTEM_FIELD_FEATURE, feature);
    }
}

void system_split_command(struct system_command *command, uint32_t slot)
{
    begin(command, SYSTEM_OPCODE_SPLIT);
    add_number(command, SYSTEM_FIELD_SLOT, slot);
}

void system_split_done_command(struct system_command *command, wal_shard child)
{
    begin(command, SYSTEM_OPCODE_SPLITDONE);
    add_number(command, SYSTEM_FIELD_SHARD, child);
}

void system_audit_command(struct system_command *command, enum system_audit_kind kind,
                          uint32_t node, const char *text)
{
    begin(command, SYSTEM_OPCODE_AUDIT);
    add(command, SYSTEM_FIELD_KIND, system_audit_kind_name(kind));
    add_number(command, SYSTEM_FIELD_NODE, node);
    add(command, SYSTEM_FIELD_TEXT, text);
}

void system_nodes_command(struct system_command *command)
{
    begin(command, SYSTEM_OPCODE_NODES);
}

void system_settings_command(struct system_command *command)
{
    begin(command, SYSTEM_OPCODE_SETTINGS);
}

void system_tokens_command(struct system_command *command)
{
    begin(command, SYSTEM_OPCODE_TOKENS);
}

void system_auditlog_command(struct system_command *command, uint32_t count_max)
{
    begin(command, SYSTEM_OPCODE_AUDITLOG);
    add_number(command, SYSTEM_FIELD_COUNT, count_max);
}
