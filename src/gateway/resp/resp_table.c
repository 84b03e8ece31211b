/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's own commands, as data, in order of name; and the index over all commands.
 *
 * The index is open addressing over names in lower case, padded to three words. */
#include "base/assert/assert.h"
#include "gateway/resp/resp_internal.h"

#define OWN (KV_FLAG_CONNECTION | KV_FLAG_FAST)
#define OWN_SLOW (KV_FLAG_CONNECTION)
#define CONNECTION KV_FAMILY_CONNECTION
#define SERVER KV_FAMILY_SERVER
#define TRANSACTION KV_FAMILY_TRANSACTION
#define NONE    \
    {           \
        0, 0, 0 \
    }

static const struct {
    struct kv_command command;
    command_handler handler;
} own_commands[] = {
    {{"acl", 0, -2, OWN_SLOW, CONNECTION, NONE, "WHOAMI | HELP",
      "Tells the user of the connection; there is one, default.", "6.0.0", "O(1)"},
     resp__acl},
    {{"asking", 0, 1, OWN, CONNECTION, NONE, "", "Does nothing: slots are never half moved.",
      "3.0.0", "O(1)"},
     resp__asking},
    {{"auth", 0, -2, OWN | KV_FLAG_NO_AUTH, CONNECTION, NONE, "[username] password",
      "Authenticates the connection.", "1.0.0", "O(1)"},
     resp__auth},
    {{"client", 0, -2, OWN_SLOW, CONNECTION, NONE,
      "GETNAME | GETREDIR | ID | INFO | KILL … | LIST [TYPE type | ID id …] | NO-EVICT ON|OFF | "
      "NO-TOUCH ON|OFF | PAUSE timeout [WRITE|ALL] | REPLY ON|OFF|SKIP | SETINFO LIB-NAME|LIB-VER "
      "value | SETNAME name | TRACKINGINFO | UNBLOCK id [TIMEOUT|ERROR] | UNPAUSE | HELP",
      "Tells about connections and changes them.", "2.4.0", "O(N) in the number of connections"},
     resp__client},
    {{"cluster", 0, -2, OWN_SLOW, SERVER, NONE,
      "COUNTKEYSINSLOT slot | GETKEYSINSLOT slot count | INFO | KEYSLOT key | LINKS | MYID | NODES "
      "| "
      "SHARDS | SLOTS | HELP",
      "Tells which node leads which slots.", "3.0.0", "O(N) in the number of nodes and ranges"},
     resp__cluster},
    {{"command", 0, -1, OWN_SLOW, SERVER, NONE,
      "[COUNT | DOCS [name …] | GETKEYS command … | GETKEYSANDFLAGS command … | INFO [name …] | "
      "LIST [FILTERBY MODULE|ACLCAT|PATTERN value] | HELP]",
      "Describes all commands.", "2.8.13", "O(N) in the number of commands"},
     resp__command},
    {{"config", 0, -2, OWN_SLOW | KV_FLAG_ADMIN, SERVER, NONE,
      "GET pattern … | SET name value … | RESETSTAT | REWRITE | HELP",
      "Reads and changes settings of the running node.", "2.0.0", "O(N) in the number of settings"},
     resp__config},
    {{"discard", 0, 1, OWN, TRANSACTION, NONE, "", "Forgets a transaction.", "2.0.0",
      "O(N) in the number of queued commands"},
     resp__discard},
    {{"echo", 0, 2, OWN, CONNECTION, NONE, "message", "Returns the message.", "1.0.0", "O(1)"},
     resp__echo},
    {{"exec", 0, 1, OWN_SLOW, TRANSACTION, NONE, "", "Executes the commands of a transaction.",
      "1.2.0", "That of the queued commands"},
     resp__exec},
    {{"hello", 0, -1, OWN | KV_FLAG_NO_AUTH, CONNECTION, NONE,
      "[2|3 [AUTH username password] [SETNAME name]]",
      "Greets, chooses the version of the protocol, authenticates.", "6.0.0", "O(1)"},
     resp__hello},
    {{"info", 0, -1, OWN_SLOW, SERVER, NONE, "[section …]", "Tells the state of the node.", "1.0.0",
      "O(1)"},
     resp__info},
    {{"lastsave", 0, 1, OWN | KV_FLAG_ADMIN, SERVER, NONE, "",
      "Returns when all that had been answered was durable, last: now, with --flush always.",
      "1.0.0", "O(1)"},
     resp__lastsave},
    {{"latency", 0, -2, OWN_SLOW | KV_FLAG_ADMIN, SERVER, NONE,
      "DOCTOR | HISTORY event | LATEST | RESET [event …] | HELP",
      "Exists for tools; latencies are in the metrics.", "2.8.13", "O(1)"},
     resp__latency},
    {{"lolwut", 0, -1, OWN, SERVER, NONE, "[VERSION version]", "Tells the version.", "5.0.0",
      "O(1)"},
     resp__lolwut},
    {{"memory", 0, -2, OWN_SLOW, SERVER, NONE,
      "DOCTOR | MALLOC-STATS | PURGE | STATS | USAGE key [SAMPLES count] | HELP",
      "Tells what uses memory.", "4.0.0", "O(1)"},
     resp__memory},
    {{"module", 0, -2, OWN_SLOW | KV_FLAG_ADMIN, SERVER, NONE, "LIST | HELP",
      "Returns nothing: there are no modules.", "4.0.0", "O(1)"},
     resp__module},
    {{"multi", 0, 1, OWN, TRANSACTION, NONE, "", "Starts a transaction.", "1.2.0", "O(1)"},
     resp__multi},
    {{"ping", 0, -1, OWN, CONNECTION, NONE, "[message]", "Returns PONG, or the message.", "1.0.0",
      "O(1)"},
     resp__ping},
    {{"quit", 0, -1, OWN | KV_FLAG_NO_AUTH, CONNECTION, NONE, "", "Closes the connection.", "1.0.0",
      "O(1)"},
     resp__quit},
    {{"readonly", 0, 1, OWN, CONNECTION, NONE, "",
      "Lets reads be answered by any replica, with what it has.", "3.0.0", "O(1)"},
     resp__readonly},
    {{"readwrite", 0, 1, OWN, CONNECTION, NONE, "", "Ends READONLY.", "3.0.0", "O(1)"},
     resp__readwrite},
    {{"reset", 0, 1, OWN | KV_FLAG_NO_AUTH, CONNECTION, NONE, "", "Makes the connection as new.",
      "6.2.0", "O(1)"},
     resp__reset},
    {{"role", 0, 1, OWN | KV_FLAG_ADMIN, SERVER, NONE, "",
      "Returns master, what the node has applied, and its replicas.", "2.8.12",
      "O(N) in the number of nodes and ranges"},
     resp__role},
    {{"select", 0, 2, OWN, CONNECTION, NONE, "index", "Chooses the database; there is one, 0.",
      "1.0.0", "O(1)"},
     resp__select},
    {{"shutdown", 0, -1, OWN_SLOW | KV_FLAG_ADMIN | KV_FLAG_NO_MULTI, SERVER, NONE,
      "[NOSAVE|SAVE] [NOW] [FORCE] [ABORT]", "Stops the node cleanly.", "1.0.0", "O(1)"},
     resp__shutdown},
    {{"slowlog", 0, -2, OWN_SLOW | KV_FLAG_ADMIN, SERVER, NONE, "GET [count] | LEN | RESET | HELP",
      "Tells which commands took long.", "2.2.12", "O(N) in the number of entries"},
     resp__slowlog},
    {{"time", 0, 1, OWN, SERVER, NONE, "", "Returns the time of the node's clock.", "2.6.0",
      "O(1)"},
     resp__time},
    {{"unwatch", 0, 1, OWN, TRANSACTION, NONE, "", "Forgets all watched keys.", "2.2.0", "O(1)"},
     resp__unwatch},
    {{"wait", 0, 3, OWN, CONNECTION, NONE, "numreplicas timeout",
      "Returns how many replicas have the connection's writes; they are durable when answered.",
      "3.0.0", "O(1)"},
     resp__wait},
    {{"waitaof", 0, 4, OWN, CONNECTION, NONE, "numlocal numreplicas timeout",
      "Returns whether the connection's writes are flushed here, and on how many replicas.",
      "7.2.0", "O(1)"},
     resp__waitaof},
    {{"watch",
      0,
      -2,
      OWN | KV_FLAG_NO_MULTI,
      TRANSACTION,
      {1, -1, 1},
      "key …",
      "Lets EXEC do nothing when one of the keys has changed.",
      "2.2.0",
      "O(N) in the number of keys"},
     resp__watch},
};

enum { OWN_COUNT = sizeof own_commands / sizeof own_commands[0] };

uint32_t resp_command_count(void)
{
    return OWN_COUNT;
}

const struct kv_command *resp_command_at(uint32_t index)
{
    ASSERT(index < OWN_COUNT);
    return &own_commands[index].command;
}

/* ---- The index ------------------------------------------------------------------------------- */

enum { PLACE_COUNT = 2 * COMMAND_COUNT_MAX, WORD_COUNT = COMMAND_NAME_SIZE_MAX / 8 };

/* The name in lower case, zero-padded; false when it is too long for any command. */
static inline bool fold(struct bytes name, uint64_t words[WORD_COUNT])
{
    if (name.size_bytes > COMMAND_NAME_SIZE_MAX || name.size_bytes == 0) {
        return false;
    }
    uint8_t text[COMMAND_NAME_SIZE_MAX] = {0};
    for (size_t i = 0; i < name.size_bytes; i++) {
        uint8_t byte = name.data[i];
        text[i] = byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
    }
    memcpy(words, text, sizeof text);
    return true;
}

static inline uint32_t place_of(const uint64_t words[WORD_COUNT])
{
    uint64_t hash = (words[0] ^ (words[1] << 1) ^ (words[2] << 2)) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(hash >> 40) % PLACE_COUNT;
}

const struct command_entry *resp__command_find(const struct command_map *map, struct bytes name)
{
    uint64_t words[WORD_COUNT];
    if (!fold(name, words)) {
        return NULL;
    }
    for (uint32_t place = place_of(words);; place = (place + 1) % PLACE_COUNT) {
        uint16_t found = map->places[place];
        if (found == 0) {
            return NULL;
        }
        const struct command_entry *entry = &map->entries[found - 1];
        if (memcmp(entry->name, words, COMMAND_NAME_SIZE_MAX) == 0) {
            return entry;
        }
    }
}

static void add(struct command_map *map, const struct kv_command *command, command_handler handler)
{
    struct bytes name = bytes_of_text(command->name);
    uint64_t words[WORD_COUNT];
    bool fits = fold(name, words);
    ASSERT(fits && map->entry_count < COMMAND_COUNT_MAX);
    if (resp__command_find(map, name) != NULL) {
        return; /* The gateway's own comes first. */
    }
    struct command_entry *entry = &map->entries[map->entry_count];
    *entry = (struct command_entry){.command = command,
                                    .handler = handler,
                                    .index = (uint16_t)map->entry_count,
                                    .name_size_bytes = (uint8_t)name.size_bytes,
                                    .spread = (uint8_t)resp__spread_kind(name)};
    memcpy(entry->name, words, COMMAND_NAME_SIZE_MAX);
    uint32_t place = place_of(words);
    while (map->places[place] != 0) {
        place = (place + 1) % PLACE_COUNT;
    }
    map->places[place] = (uint16_t)(++map->entry_count);
}

void resp__command_map_build(struct command_map *map)
{
    memset(map, 0, sizeof *map);
    for (uint32_t i = 0; i < OWN_COUNT; i++) {
        add(map, &own_commands[i].command, own_commands[i].handler);
    }
    for (uint32_t i = 0; i < kv_command_count(); i++) {
        add(map, kv_command_at(i), NULL);
    }
}
