/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments are pairs of a name and a value, as text, so that a command of the log says by itself
 * what it is about, and a later version can add a pair. */
#include "base/assert/assert.h"
#include "base/number/number.h"
#include "service/system/system_internal.h"

enum form {
    FORM_TEXT,  /* Printable ASCII without blanks, shorter than `largest`. */
    FORM_WORDS, /* Any bytes. */
    FORM_NUMBER,
    FORM_CLUSTER,
    FORM_KEY,
    FORM_TOKEN,
    FORM_STATE,
    FORM_KIND,
};

static const struct {
    const char *name;
    enum form form;
    uint64_t lowest;
    uint64_t largest;
    const char *problem;
} fields[SYSTEM_FIELD_COUNT_ALL] = {
    [SYSTEM_FIELD_ADMIN] = {"admin", FORM_TEXT, 0, SYSTEM_ADDRESS_SIZE,
                            "admin is not an address of at most 120 characters"},
    [SYSTEM_FIELD_CLUSTER] = {"cluster", FORM_CLUSTER, 0, 0,
                              "cluster is not 32 lower-case hexadecimal digits"},
    [SYSTEM_FIELD_COUNT] = {"count", FORM_NUMBER, 1, SYSTEM_AUDIT_COUNT_MAX,
                            "count is not between 1 and 1000"},
    [SYSTEM_FIELD_FEATURE] = {"feature", FORM_NUMBER, 1, UINT32_MAX, "feature is not a version"},
    [SYSTEM_FIELD_KEY] = {"key", FORM_KEY, 0, 0, "key is not 64 lower-case hexadecimal digits"},
    [SYSTEM_FIELD_KIND] = {"kind", FORM_KIND, 0, 0, "kind is none of a record"},
    [SYSTEM_FIELD_NODE] = {"node", FORM_NUMBER, 0, UINT32_MAX, "node is not the number of a node"},
    [SYSTEM_FIELD_PEER] = {"peer", FORM_TEXT, 1, SYSTEM_ADDRESS_SIZE,
                           "peer is not an address of at most 120 characters"},
    [SYSTEM_FIELD_REDIS] = {"redis", FORM_TEXT, 0, SYSTEM_ADDRESS_SIZE,
                            "redis is not an address of at most 120 characters"},
    [SYSTEM_FIELD_REPLICAS] = {"replicas", FORM_NUMBER, 1, 5, "replicas are 1, 3 or 5"},
    [SYSTEM_FIELD_SHARD] = {"shard", FORM_NUMBER, 1, UINT32_MAX,
                            "shard is not the number of a shard"},
    [SYSTEM_FIELD_SHARDS] = {"shards", FORM_NUMBER, 1, SLOTS_SHARD_COUNT_MAX,
                             "shards are not between 1 and 16384"},
    [SYSTEM_FIELD_SLOT] = {"slot", FORM_NUMBER, 1, SLOTS_COUNT - 1,
                           "slot is not between 1 and 16383"},
    [SYSTEM_FIELD_SOFTWARE] = {"software", FORM_TEXT, 0, SYSTEM_SOFTWARE_SIZE,
                               "software is not a version of at most 63 characters"},
    [SYSTEM_FIELD_STATE] = {"state", FORM_STATE, 0, 0,
                            "state is none of active, draining, drained, removed"},
    [SYSTEM_FIELD_TEXT] = {"text", FORM_WORDS, 0, 0, ""},
    [SYSTEM_FIELD_TOKEN] = {"token", FORM_TOKEN, 0, 0,
                            "token is not 64 lower-case hexadecimal digits"},
    [SYSTEM_FIELD_TTL] = {"ttl", FORM_NUMBER, 1, SYSTEM_TOKEN_TTL_MS_MAX,
                          "ttl is not between 1 millisecond and 366 days"},
    [SYSTEM_FIELD_USES] = {"uses", FORM_NUMBER, 1, SYSTEM_TOKEN_USES_MAX,
                           "uses are not between 1 and 100"},
    [SYSTEM_FIELD_ZONE] = {"zone", FORM_TEXT, 0, SYSTEM_ZONE_SIZE,
                           "zone is not a name of at most 32 characters without blanks"},
};

const char *system__field_name(enum system__field field)
{
    return fields[field].name;
}

_Static_assert(SLOTS_SHARD_COUNT_MAX == 16384 && SLOTS_COUNT == 16384, "as the texts say");

static bool parse_state(struct bytes text, uint64_t *number)
{
    for (uint32_t state = SYSTEM_NODE_ACTIVE; state <= SYSTEM_NODE_REMOVED; state++) {
        if (bytes_equal(text,
                        bytes_of_text(system_node_state_name((enum system_node_state)state)))) {
            *number = state;
            return true;
        }
    }
    return false;
}

static bool parse_kind(struct bytes text, uint64_t *number)
{
    for (uint32_t kind = SYSTEM_AUDIT_BOOTSTRAP; kind < SYSTEM_AUDIT_KIND_COUNT; kind++) {
        if (bytes_equal(text,
                        bytes_of_text(system_audit_kind_name((enum system_audit_kind)kind)))) {
            *number = kind;
            return true;
        }
    }
    return false;
}

static bool parse_value(enum system__field field, struct bytes value,
                        struct system__arguments *arguments)
{
    uint64_t lowest = fields[field].lowest;
    uint64_t largest = fields[field].largest;
    uint64_t *number = &arguments->numbers[field];
    switch (fields[field].form) {
    case FORM_TEXT:
        return value.size_bytes >= lowest && value.size_bytes < largest &&
               system__text_is_clean(value);
    case FORM_WORDS:
        return true;
    case FORM_NUMBER:
        return number_parse_unsigned(value, number) && *number >= lowest && *number <= largest;
    case FORM_CLUSTER:
        return system__cluster_is_valid(value);
    case FORM_KEY:
        return system__digest_parse(value, &arguments->key);
    case FORM_TOKEN:
        return system__digest_parse(value, &arguments->token);
    case FORM_STATE:
        return parse_state(value, number);
    case FORM_KIND:
        return parse_kind(value, number);
    }
    return false;
}

const char *system__arguments_parse(const struct shard_command *command, uint32_t required,
                                    uint32_t allowed, struct system__arguments *arguments)
{
    ASSERT(command->opcode >= SYSTEM_OPCODE_FIRST && command->opcode <= SYSTEM_OPCODE_LAST);
    memset(arguments, 0, sizeof *arguments);
    if (command->argument_count % 2 != 0) {
        return "arguments are pairs of a name and a value";
    }
    for (uint32_t i = 0; i < command->argument_count; i += 2) {
        struct bytes name = command->arguments[i];
        uint32_t field = 0;
        while (field < SYSTEM_FIELD_COUNT_ALL &&
               !bytes_equal(name, bytes_of_text(fields[field].name))) {
            field++;
        }
        if (field == SYSTEM_FIELD_COUNT_ALL || ((required | allowed) >> field & 1) == 0) {
            return "there is an argument that the command does not have";
        }
        if ((arguments->present >> field & 1) != 0) {
            return "an argument is there twice";
        }
        struct bytes value = command->arguments[i + 1];
        if (!parse_value((enum system__field)field, value, arguments)) {
            return fields[field].problem;
        }
        arguments->texts[field] = value;
        arguments->present |= 1u << field;
    }
    bool has_all = (arguments->present & required) == required;
    bool has_odd_replicas =
        !system__has(arguments, SYSTEM_FIELD_REPLICAS) ||
        system__replicas_is_valid((uint32_t)arguments->numbers[SYSTEM_FIELD_REPLICAS]);
    if (!has_odd_replicas) {
        return fields[SYSTEM_FIELD_REPLICAS].problem;
    }
    return has_all ? NULL : "an argument is missing";
}
