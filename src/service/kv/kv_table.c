/* SPDX-License-Identifier: Apache-2.0 */
/* The indexes over the command tables: by name, by opcode, and in order of name.
 *
 * A name of letters only, at most 16 long, is told by its first 8 bytes, its last 8 and its length,
 * with bit 5 set in each byte: that bit turns upper into lower case, and what it turns into a
 * letter is a letter. So a lookup is two loads, a multiplication and, mostly, one comparison. The
 * indexes are filled before main() and never change. */
#include "base/assert/assert.h"
#include "service/kv/kv_internal.h"

enum { NAME_INDEX_SIZE = 1024, COMMAND_COUNT_MAX = 256, NAME_SIZE_BYTES_MAX = 16 };

struct name_key {
    uint64_t first;
    uint64_t last;
    uint64_t size_bytes;
};

struct name_entry {
    struct name_key key;
    const struct kv__entry *entry;
};

static struct name_entry name_index[NAME_INDEX_SIZE];
static const struct kv__entry *entries_of_opcodes[KV_OPCODE_COUNT];
static const struct kv__entry *entries_in_order[COMMAND_COUNT_MAX];
static uint32_t entry_count;

static struct name_key name_key_of(struct bytes name)
{
    const uint64_t case_bits = 0x2020202020202020;
    struct name_key key = {.size_bytes = name.size_bytes};
    if (name.size_bytes >= 8) {
        memcpy(&key.first, name.data, 8);
        memcpy(&key.last, name.data + name.size_bytes - 8, 8);
    } else {
        for (size_t i = 0; i < name.size_bytes; i++) {
            key.first = key.first << 8 | name.data[i];
        }
    }
    key.first |= case_bits;
    key.last |= case_bits;
    return key;
}

static uint32_t name_hash(const struct name_key *key)
{
    uint64_t mixed = (key->first ^ (key->last << 1 | key->last >> 63)) + key->size_bytes;
    return (uint32_t)((mixed * 0x9e3779b97f4a7c15) >> 54);
}
_Static_assert(NAME_INDEX_SIZE == 1 << (64 - 54), "name_hash() gives an index of the table");

static const struct kv__entry *find(struct bytes name)
{
    if (name.size_bytes == 0 || name.size_bytes > NAME_SIZE_BYTES_MAX) {
        return NULL;
    }
    struct name_key key = name_key_of(name);
    for (uint32_t place = name_hash(&key);; place = (place + 1) % NAME_INDEX_SIZE) {
        const struct name_entry *candidate = &name_index[place];
        if (candidate->entry == NULL) {
            return NULL;
        }
        if (candidate->key.first == key.first && candidate->key.last == key.last &&
            candidate->key.size_bytes == key.size_bytes) {
            return candidate->entry;
        }
    }
}

static void add_name(const struct kv__entry *entry)
{
    struct bytes name = bytes_of_text(entry->command.name);
    ASSERT(name.size_bytes <= NAME_SIZE_BYTES_MAX && find(name) == NULL);
    for (size_t i = 0; i < name.size_bytes; i++) {
        ASSERT(name.data[i] >= 'a' && name.data[i] <= 'z');
    }
    struct name_key key = name_key_of(name);
    uint32_t place = name_hash(&key);
    while (name_index[place].entry != NULL) {
        place = (place + 1) % NAME_INDEX_SIZE;
    }
    name_index[place] = (struct name_entry){key, entry};
    ASSERT(entry_count < COMMAND_COUNT_MAX);
    uint32_t index = entry_count++;
    for (; index > 0 && strcmp(entries_in_order[index - 1]->command.name, entry->command.name) > 0;
         index--) {
        entries_in_order[index] = entries_in_order[index - 1];
    }
    entries_in_order[index] = entry;
}

static void add_table(const struct kv__table *table)
{
    for (uint32_t i = 0; i < table->entry_count; i++) {
        const struct kv__entry *entry = &table->entries[i];
        uint16_t opcode = entry->command.opcode;
        ASSERT(opcode != 0 && opcode < KV_OPCODE_COUNT && entry->execute != NULL);
        ASSERT(entries_of_opcodes[opcode] == NULL);
        entries_of_opcodes[opcode] = entry;
        if ((entry->command.flags & KV_FLAG_INTERNAL) == 0) {
            add_name(entry);
        }
    }
}

__attribute__((constructor)) static void fill_indexes(void)
{
    add_table(&kv__string_table);
    add_table(&kv__key_table);
    add_table(&kv__hash_table);
    add_table(&kv__internal_table);
}

const struct kv__entry *kv__entry_of_opcode(uint16_t opcode)
{
    return opcode < KV_OPCODE_COUNT ? entries_of_opcodes[opcode] : NULL;
}

const struct kv_command *kv_command_find(struct bytes name)
{
    const struct kv__entry *entry = find(name);
    return entry == NULL ? NULL : &entry->command;
}

uint32_t kv_command_count(void)
{
    return entry_count;
}

const struct kv_command *kv_command_at(uint32_t index)
{
    ASSERT(index < entry_count);
    return &entries_in_order[index]->command;
}

bool kv__is_named(const struct kv_command *command, const char *name)
{
    return strcmp(command->name, name) == 0;
}

bool kv__is_one_of(const struct kv_command *command, const char *const *names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (kv__is_named(command, names[i])) {
            return true;
        }
    }
    return false;
}

const char *kv_family_name(enum kv_family family)
{
    switch (family) {
    case KV_FAMILY_STRING:
        return "string";
    case KV_FAMILY_KEY:
        return "key";
    case KV_FAMILY_HASH:
        return "hash";
    case KV_FAMILY_TRANSACTION:
        return "transaction";
    case KV_FAMILY_CONNECTION:
        return "connection";
    case KV_FAMILY_SERVER:
        return "server";
    }
    return "";
}

bool kv_command_arity_fits(const struct kv_command *command, uint64_t argument_count)
{
    int64_t arity = command->arity;
    return arity >= 0 ? argument_count == (uint64_t)arity : argument_count >= (uint64_t)-arity;
}

uint16_t kv_versions_opcode(void)
{
    return KV_OPCODE_VERSIONS;
}
