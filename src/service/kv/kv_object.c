/* SPDX-License-Identifier: Apache-2.0 */
/* OBJECT and MEMORY: what a key costs, and what Redis would say of its encoding. */
#include "base/number/number.h"
#include "service/kv/kv_field.h"
#include "service/kv/kv_internal.h"

enum {
    EMBEDDED_STRING_SIZE_BYTES_MAX = 44, /* Redis: OBJ_ENCODING_EMBSTR_SIZE_LIMIT. */
    SAMPLE_COUNT_DEFAULT = 5,
    ROW_OVERHEAD_BYTES = 16, /* What the store keeps beside a row, about. */
};

static void reply_help(struct kv_call *call, const char *const *lines, uint32_t line_count)
{
    reply_array(call->reply, line_count);
    for (uint32_t i = 0; i < line_count; i++) {
        reply_status(call->reply, lines[i]);
    }
}

static void reply_unknown_subcommand(struct kv_call *call, const char *container)
{
    struct bytes name = call->arguments[0];
    int size = name.size_bytes > 128 ? 128 : (int)name.size_bytes;
    reply_error(call->reply, "ERR unknown subcommand '%.*s'. Try %s HELP.", size,
                (const char *)name.data, container);
}

static const char *encoding_name(const struct kv_value *value)
{
    if (value->type == KV_TYPE_HASH) {
        return value->count <= KV_LISTPACK_FIELD_COUNT_MAX ? "listpack" : "hashtable";
    }
    int64_t number;
    if (number_parse_integer(value->data, &number)) {
        return "int";
    }
    return value->data.size_bytes <= EMBEDDED_STRING_SIZE_BYTES_MAX ? "embstr" : "raw";
}

enum object_question { OBJECT_ENCODING, OBJECT_REFCOUNT, OBJECT_IDLETIME, OBJECT_FREQ };

static int object_answer(struct kv_call *call, enum object_question question)
{
    struct kv_key key;
    struct kv_value value;
    kv__key_init(&key, call->arguments[1]);
    int status = kv__key_lookup(call, &key, &value);
    if (status != 0) {
        return status;
    }
    if (value.type == KV_TYPE_NONE) {
        reply_null(call->reply);
        return 0;
    }
    switch (question) {
    case OBJECT_ENCODING:
        reply_bulk_text(call->reply, encoding_name(&value));
        break;
    case OBJECT_REFCOUNT:
        reply_integer(call->reply, 1);
        break;
    case OBJECT_IDLETIME:
        reply_integer(call->reply, 0);
        break;
    case OBJECT_FREQ:
        reply_error(call->reply,
                    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. "
                    "Please note that when switching between policies at runtime LRU and LFU data "
                    "will take some time to adjust.");
        break;
    }
    return 0;
}

int kv__command_object(struct kv_call *call)
{
    static const char *const help[] = {
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Print this help.",
    };
    static const struct {
        const char *word;
        enum object_question question;
    } questions[] = {
        {"encoding", OBJECT_ENCODING},
        {"refcount", OBJECT_REFCOUNT},
        {"idletime", OBJECT_IDLETIME},
        {"freq", OBJECT_FREQ},
    };
    struct bytes word = call->arguments[0];
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        if (!kv__is_word(word, questions[i].word)) {
            continue;
        }
        if (call->argument_count != 2) {
            reply_error(call->reply, "ERR wrong number of arguments for 'object|%s' command",
                        questions[i].word);
            return 0;
        }
        return object_answer(call, questions[i].question);
    }
    if (kv__is_word(word, "help") && call->argument_count != 1) {
        reply_error(call->reply, "ERR wrong number of arguments for 'object|help' command");
    } else if (kv__is_word(word, "help")) {
        reply_help(call, help, sizeof help / sizeof help[0]);
    } else {
        reply_unknown_subcommand(call, "OBJECT");
    }
    return 0;
}

/* ---- MEMORY USAGE ---------------------------------------------------------------------------- */

/* What `sample_count` fields of a hash (0: all) take, with their rows. */
static int sample_fields(struct kv_call *call, const struct kv_key *key,
                         const struct kv_value *value, uint64_t sample_count, uint64_t *size_bytes)
{
    struct rows_iterator *iterator;
    int status = kv__fields_open(call->rows, key->slot, value->generation, &iterator);
    if (status != 0) {
        return status;
    }
    uint64_t total = 0;
    uint64_t count = 0;
    status = kv__fields_seek(iterator, key->slot, value->generation, 0);
    while (status == 0 && (sample_count == 0 || count < sample_count)) {
        total += rows_iterator_key(iterator).size_bytes + rows_iterator_value(iterator).size_bytes +
                 ROW_OVERHEAD_BYTES;
        count++;
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    *size_bytes = count == 0 ? 0 : total / count * value->count;
    return 0;
}

static int memory_usage(struct kv_call *call)
{
    int64_t sample_count = SAMPLE_COUNT_DEFAULT;
    for (uint32_t i = 2; i < call->argument_count; i++) {
        if (!kv__is_word(call->arguments[i], "samples") || i + 1 >= call->argument_count) {
            kv__reply_syntax_error(call);
            return 0;
        }
        if (!kv__parse_integer(call, call->arguments[++i], &sample_count)) {
            return 0;
        }
        if (sample_count < 0) {
            kv__reply_syntax_error(call);
            return 0;
        }
    }
    struct kv_key key;
    struct kv_value value;
    kv__key_init(&key, call->arguments[1]);
    int status = kv__key_lookup(call, &key, &value);
    if (status != 0) {
        return status;
    }
    if (value.type == KV_TYPE_NONE) {
        reply_null(call->reply);
        return 0;
    }
    uint64_t size = key.row.size_bytes + value.data.size_bytes + ROW_OVERHEAD_BYTES + 10;
    if (value.expire_ms != 0) {
        size += 8 + KV_EXPIRY_ROW_PREFIX_SIZE_BYTES + key.name.size_bytes + ROW_OVERHEAD_BYTES;
    }
    uint64_t fields_size = 0;
    if (value.type == KV_TYPE_HASH) {
        status = sample_fields(call, &key, &value, (uint64_t)sample_count, &fields_size);
        if (status != 0) {
            return status;
        }
    }
    reply_integer(call->reply, (int64_t)(size + fields_size));
    return 0;
}

int kv__command_memory(struct kv_call *call)
{
    static const char *const help[] = {
        "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "USAGE <key> [SAMPLES <count>]",
        "    Return bytes on disk used by <key> and its value, before compression. Fields",
        "    of a hash are sampled up to <count> times (default: 5, 0 means sample all).",
        "HELP",
        "    Print this help.",
    };
    struct bytes word = call->arguments[0];
    if (kv__is_word(word, "usage")) {
        if (call->argument_count < 2) {
            kv__reply_arity_error(call, "memory|usage");
            return 0;
        }
        return memory_usage(call);
    }
    if (kv__is_word(word, "help")) {
        reply_help(call, help, sizeof help / sizeof help[0]);
    } else {
        reply_unknown_subcommand(call, "MEMORY");
    }
    return 0;
}
