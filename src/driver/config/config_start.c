/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `tutti start`. */
#include "driver/config/config.h"

#include "core/slots/slots.h"
#include "core/token/token.h"

#define FIELD(name) .offset = offsetof(struct config_start, name)

enum { REACTORS_MAX = 64, ZONE_SIZE_MAX = 32 };

static const char *const flush_choices[] = {"always", "everysec", NULL};
static const char *const order_choices[] = {"shard", "connection", NULL};
static const char *const format_choices[] = {"logfmt", "json", NULL};
static const char *const level_choices[] = {"debug", "info", "warn", "error", NULL};

_Static_assert(OS_LOG_JSON == 1 && OS_LOG_ERROR == 3, "the choices are in the order of os.h");

static int parse_directory(const struct config_option *option, const char *text, void *target,
                           struct error *error)
{
    if (text[0] == '\0') {
        return error_say(error, -EINVAL, "is not the name of a directory");
    }
    return config_parse_text(option, text, target, error);
}

static int parse_token(const struct config_option *option, const char *text, void *target,
                       struct error *error)
{
    struct token token;
    int status = text[0] == '\0' ? 0 : token_decode(&token, bytes_of_text(text), error);
    return status == 0 ? config_parse_text(option, text, target, error) : status;
}

static int parse_replicas(const struct config_option *option, const char *text, void *target,
                          struct error *error)
{
    uint64_t replicas = 0;
    int status = config_parse_number(option, text, &replicas, error);
    if (status == 0 && replicas % 2 == 0) {
        return error_say(error, -EINVAL, "is not 1, 3 or 5");
    }
    if (status == 0) {
        *(uint64_t *)target = replicas;
    }
    return status;
}

static int parse_split_size(const struct config_option *option, const char *text, void *target,
                            struct error *error)
{
    uint64_t size_bytes = 0;
    int status = config_parse_size(option, text, &size_bytes, error);
    if (status == 0 && size_bytes != 0 && size_bytes < CONFIG_SPLIT_SIZE_BYTES_MIN) {
        return error_say(error, -EINVAL, "is less than 1mb, and not 0 (no splits by size)");
    }
    if (status == 0) {
        *(uint64_t *)target = size_bytes;
    }
    return status;
}

_Static_assert(CONFIG_SPLIT_SIZE_BYTES_MIN == 1 << 20, "as the message and the help say");

static const struct config_option options[] = {
    {
        .name = "data",
        .unit = "DIR",
        .default_text = "tutti-data",
        .help = "The directory that holds everything the node keeps. It is created when it is "
                "missing; one process at a time uses it.",
        .parse = parse_directory,
        FIELD(data),
    },
    {
        .name = "redis",
        .unit = "ADDR:PORT",
        .default_text = "127.0.0.1:6379",
        .help =
            "Where Redis clients connect. Port 0 takes any free one. An address beyond loopback "
            "needs --requirepass.",
        .parse = config_parse_address,
        FIELD(redis),
    },
    {
        .name = "admin",
        .unit = "ADDR:PORT",
        .default_text = "127.0.0.1:7379",
        .help = "Where HTTP serves /metrics, /healthz, /readyz and /status. An address beyond "
                "loopback needs --requirepass, and shows figures to whoever can reach it.",
        .parse = config_parse_address,
        FIELD(admin),
    },
    {
        .name = "peer",
        .unit = "ADDR:PORT",
        .default_text = "127.0.0.1:7380",
        .help = "Where the other nodes of the cluster reach this one. Between nodes everything is "
                "encrypted and both sides show certificates. For a cluster on several machines, an "
                "address that the others can reach.",
        .parse = config_parse_address,
        FIELD(peer),
    },
    {
        .name = "advertise",
        .unit = "HOST:PORT",
        .default_note = "the address of --peer",
        .help = "What the other nodes are told to reach this one by, when it differs from --peer: "
                "behind 0.0.0.0, a translated address, or as a name.",
        .parse = config_parse_host,
        FIELD(advertise),
    },
    {
        .name = "zone",
        .unit = "NAME",
        .default_note = "none",
        .help = "Where the machine stands: a rack, a room, a data centre. Replicas are spread over "
                "zones, so that one zone can be lost.",
        .parse = config_parse_name,
        .largest = ZONE_SIZE_MAX,
        FIELD(zone),
    },
    {
        .name = "join",
        .unit = "HOST:PORT",
        .default_note = "none: the first start makes a cluster of one",
        .help =
            "Join the cluster that has a node with this peer address. Several, repeated or with "
            "commas between, are tried in turn. Needs --token, and a new data directory.",
        .parse = config_parse_hosts,
        .is_list = true,
        FIELD(join),
    },
    {
        .name = "token",
        .unit = "TOKEN",
        .default_note = "none",
        .help = "What `tutti token` printed on a node of the cluster to join. Better in the "
                "variable than as a flag, which other users of the machine can see.",
        .parse = parse_token,
        .is_secret = true,
        FIELD(token),
    },
    {
        .name = "replicas",
        .unit = "1|3|5",
        .default_note = "3 for a new cluster, once there are so many nodes; else as it is",
        .help = "How many replicas everything should have. Counts when the first node makes the "
                "cluster; `tutti replicas` changes it later.",
        .parse = parse_replicas,
        .lowest = 1,
        .largest = 5,
        FIELD(replicas),
    },
    {
        .name = "shards",
        .unit = "N",
        .default_note = "1",
        .help = "Into how many shards the data of a new cluster is divided, 1 to 16384: each with "
                "its own log entries, replicas and leader. Counts when the first node makes the "
                "cluster; "
                "`tutti split` makes more of them later.",
        .parse = config_parse_number,
        .lowest = 1,
        .largest = SLOTS_SHARD_COUNT_MAX,
        FIELD(shards),
    },
    {
        .name = "split-size",
        .unit = "SIZE",
        .default_text = "256mb",
        .help = "In a cluster of several nodes a shard with more data becomes two by itself. At "
                "least 1mb; 0: none does. Give all nodes the same: the one that leads the first "
                "shard decides.",
        .parse = parse_split_size,
        FIELD(split_size),
    },
    {
        .name = "split-load",
        .unit = "N",
        .default_text = "50000",
        .help = "A shard that takes more requests per second than this, for half a minute, becomes "
                "two by itself when another node would still do less than its leader with half of "
                "them; 0: none does.",
        .parse = config_parse_number,
        .largest = UINT32_MAX,
        FIELD(split_load),
    },
    {
        .name = "reactors",
        .unit = "N",
        .default_note = "half the number of processors, at least 1: the log writer, the store and "
                        "the kernel need some too",
        .help = "How many threads serve connections.",
        .parse = config_parse_number,
        .lowest = 1,
        .largest = REACTORS_MAX,
        FIELD(reactors),
    },
    {
        .name = "memory",
        .unit = "SIZE",
        .default_note = "a quarter of the memory of the machine",
        .help = "The bound for caches and buffers together, such as 512mb or 2gb; at least 64mb. "
                "Data may be far larger.",
        .parse = config_parse_size,
        .lowest = CONFIG_MEMORY_SIZE_BYTES_MIN,
        FIELD(memory),
    },
    {
        .name = "requirepass",
        .unit = "PASSWORD",
        .default_text = "",
        .help =
            "The password that clients must give (AUTH). Better in the configuration file or the "
            "variable than as a flag, which other users of the machine can see.",
        .parse = config_parse_text,
        .is_secret = true,
        FIELD(requirepass),
    },
    {
        .name = "flush",
        .unit = "always|everysec",
        .default_text = "always",
        .help = "When a write is answered. always: once it is on disk. everysec: at once; a crash "
                "of the machine may lose about the last second of answered writes.",
        .parse = config_parse_choice,
        .choices = flush_choices,
        FIELD(flush),
    },
    {
        .name = "pipeline-order",
        .unit = "shard|connection",
        .default_text = "shard",
        .help = "What takes effect in the order sent when a client sends commands without waiting "
                "for the replies. shard: those of one shard (so of one key, or one {tag}); "
                "transactions and commands over several shards wait for all before them, and all "
                "behind for them. connection: all, at the price of a wait at each change of shard.",
        .parse = config_parse_choice,
        .choices = order_choices,
        FIELD(pipeline_order),
    },
    {
        .name = "log-format",
        .unit = "logfmt|json",
        .default_text = "logfmt",
        .help = "The form of the log on standard error.",
        .parse = config_parse_choice,
        .choices = format_choices,
        FIELD(log_format),
    },
    {
        .name = "log-level",
        .unit = "debug|info|warn|error",
        .default_text = "info",
        .help = "The least important events that are logged.",
        .parse = config_parse_choice,
        .choices = level_choices,
        FIELD(log_level),
    },
    {
        .name = "config",
        .unit = "FILE",
        .default_text = "",
        .help = "A file with any of these options.",
        .parse = config_parse_text,
        FIELD(config),
    },
};

const struct config_table config_start_table = {
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .target_size_bytes = sizeof(struct config_start),
    .prefix = "TUTTI_",
    .file_option = "config",
};

static int refuse_open_address(const struct os_address *address, const char *flag,
                               struct error *error)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    return error_say(error, -EACCES,
                     "%s %s would let other machines in without a password; set --requirepass (or "
                     "TUTTI_REQUIREPASS), or use a loopback address such as 127.0.0.1:%u",
                     flag, os_address_format(address, text), (unsigned)address->port);
}

static bool is_everywhere(const struct os_address *address)
{
    static const uint8_t zeros[sizeof address->bytes];
    return memcmp(address->bytes, zeros, address->is_ipv6 ? 16 : 4) == 0;
}

static int check_cluster(const struct config_start *loaded, struct error *error)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    if (is_everywhere(&loaded->peer) && loaded->advertise[0] == '\0') {
        return error_say(error, -EINVAL,
                         "--peer %s does not say by which address the other nodes reach this one; "
                         "add --advertise HOST:PORT",
                         os_address_format(&loaded->peer, text));
    }
    if (loaded->join[0] != '\0' && loaded->token[0] == '\0') {
        return error_say(error, -EINVAL,
                         "--join needs a token: run `tutti token` on a node of the cluster, and "
                         "give what it prints with --token (or TUTTI_TOKEN)");
    }
    if (loaded->token[0] != '\0' && loaded->join[0] == '\0') {
        return error_say(error, -EINVAL,
                         "--token is for joining: add --join HOST:PORT, the peer address of a node "
                         "of the cluster");
    }
    return 0;
}

int config_start_load(const struct config_sources *sources, struct config_start *target,
                      struct error *error)
{
    struct config_start loaded = {0};
    int status = config_load(&config_start_table, sources, &loaded, error);
    if (status != 0) {
        return status;
    }
    if (loaded.requirepass[0] == '\0') {
        if (!os_address_is_loopback(&loaded.redis)) {
            return refuse_open_address(&loaded.redis, "--redis", error);
        }
        if (!os_address_is_loopback(&loaded.admin)) {
            return refuse_open_address(&loaded.admin, "--admin", error);
        }
    }
    status = check_cluster(&loaded, error);
    if (status != 0) {
        return status;
    }
    if (loaded.memory == 0) {
        uint64_t quarter = os_memory_total_bytes() / 4;
        loaded.memory =
            quarter > CONFIG_MEMORY_SIZE_BYTES_MIN ? quarter : CONFIG_MEMORY_SIZE_BYTES_MIN;
    }
    *target = loaded;
    return 0;
}
