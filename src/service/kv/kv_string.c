/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: reading and replacing whole values. Checks come in the order in which Redis makes them,
 * because clients see which error wins. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "service/kv/kv_internal.h"

static void reply_value(struct kv_call *call, const struct kv_value *value)
{
    if (value->type == KV_TYPE_NONE) {
        reply_null(call->reply);
    } else {
        reply_bulk(call->reply, value->data);
    }
}

/* ---- What is replaced ------------------------------------------------------------------------ */

bool kv__does_replace(const struct kv__entry *entry)
{
    return entry->execute == kv__command_set || entry->execute == kv__command_setex ||
           entry->execute == kv__command_psetex;
}

/* Half of what is known is looked up all the same where that may cost; the other half is what a replay
 * does. */
static bool is_true(struct kv_call *call, const struct kv_key *key)
{
    struct kv_value value;
    if ((call->version ^ call->version >> 16) % 2 == 0) {
        return true;
    }
    uint64_t expired_count = call->kv->expired_key_count;
    int status = kv__key_lookup(call, key, &value);
    return status != 0 ||
           (expired_count == call->kv->expired_key_count && value.expire_ms == 0 &&
            value.type == (call->known == KV_FOUND_STRING ? KV_TYPE_STRING : KV_TYPE_NONE));
}

/* Look up a key that will be replaced, so that its value does not matter. */
static int replaced_lookup(struct kv_call *call, const struct kv_key *key, struct kv_value *before)
{
    if (call->known == KV_FOUND_NOTHING || call->known == KV_FOUND_STRING) {
        ASSERT_SLOW(is_true(call, key));
        *before = (struct kv_value){.type = call->known == KV_FOUND_STRING ? KV_TYPE_STRING
                                                                           : KV_TYPE_NONE};
        if (call->found != NULL) {
            *call->found = call->known;
        }
        return 0;
    }
    uint64_t expired_count = call->kv->expired_key_count;
    int status = kv__key_lookup_head(call, key, before);
    if (status == 0 && call->found != NULL && before->expire_ms == 0 &&
        before->type != KV_TYPE_HASH &&
        (expired_count == call->kv->expired_key_count || BUG("kv.expiry_not_recalled"))) {
        *call->found = before->type == KV_TYPE_STRING ? KV_FOUND_STRING : KV_FOUND_NOTHING;
    }
    return status;
}

static void write_string(struct kv_call *call, const struct kv_key *key,
                         const struct kv_value *before, struct bytes data, uint64_t expire_ms)
{
    struct kv_value after = {.type = KV_TYPE_STRING, .data = data, .expire_ms = expire_ms};
    /* A time that has passed: the key is set and gone at once. */
    if (expire_ms != 0 && expire_ms <= call->time_ms) {
        after.type = KV_TYPE_NONE;
    }
    kv__key_write(call, key, before, &after);
}

int kv__command_get(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value value;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &value);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_value(call, &value);
    return 0;
}

int kv__command_strlen(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value value;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &value);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_integer(call->reply, value.type == KV_TYPE_NONE ? 0 : (int64_t)value.data.size_bytes);
    return 0;
}

/* Keys of another type count as absent here. */
int kv__command_mget(struct kv_call *call)
{
    reply_array(call->reply, call->argument_count);
    for (uint32_t i = 0; i < call->argument_count; i++) {
        struct kv_key key;
        struct kv_value value;
        kv__key_init(&key, call->arguments[i]);
        int status = kv__key_lookup(call, &key, &value);
        if (status != 0) {
            return status;
        }
        if (value.type == KV_TYPE_STRING) {
            reply_bulk(call->reply, value.data);
        } else {
            reply_null(call->reply);
        }
    }
    return 0;
}

/* ---- Options of SET and GETEX ---------------------------------------------------------------- */

struct set_options {
    bool is_only_new;           /* NX */
    bool is_only_old;           /* XX */
    bool is_get;                /* GET */
    bool is_keep_ttl;           /* KEEPTTL */
    bool is_persist;            /* PERSIST, of GETEX */
    const struct bytes *expiry; /* The number after EX, PX, EXAT or PXAT; NULL: none. */
    struct kv__expiry_unit unit;
};

static bool parse_expiry_unit(struct bytes word, struct kv__expiry_unit *unit)
{
    static const struct {
        const char *word;
        struct kv__expiry_unit unit;
    } units[] = {
        {"ex", {.is_seconds = true, .is_relative = true}},
        {"px", {.is_relative = true}},
        {"exat", {.is_seconds = true}},
        {"pxat", {0}},
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (kv__is_word(word, units[i].word)) {
            *unit = units[i].unit;
            return true;
        }
    }
    return false;
}

/* One word of the options that both commands know. The number after it is skipped by `*index`. */
static bool parse_expiry_option(struct kv_call *call, uint32_t *index, struct set_options *options)
{
    struct kv__expiry_unit unit;
    if (!parse_expiry_unit(call->arguments[*index], &unit) || options->is_keep_ttl ||
        options->is_persist || *index + 1 >= call->argument_count) {
        return false;
    }
    /* The same unit twice is accepted, and the last one counts. */
    if (options->expiry != NULL && (unit.is_seconds != options->unit.is_seconds ||
                                    unit.is_relative != options->unit.is_relative)) {
        return false;
    }
    options->unit = unit;
    options->expiry = &call->arguments[++*index];
    return true;
}

static bool parse_set_options(struct kv_call *call, struct set_options *options)
{
    for (uint32_t i = 2; i < call->argument_count; i++) {
        struct bytes word = call->arguments[i];
        if (kv__is_word(word, "nx") && !options->is_only_old) {
            options->is_only_new = true;
        } else if (kv__is_word(word, "xx") && !options->is_only_new) {
            options->is_only_old = true;
        } else if (kv__is_word(word, "get")) {
            options->is_get = true;
        } else if (kv__is_word(word, "keepttl") && options->expiry == NULL) {
            options->is_keep_ttl = true;
        } else if (!parse_expiry_option(call, &i, options)) {
            kv__reply_syntax_error(call);
            return false;
        }
    }
    return true;
}

bool kv__parse_expiry(struct kv_call *call, struct bytes text, struct kv__expiry_unit unit,
                      uint64_t *expire_ms)
{
    int64_t time;
    if (!kv__parse_integer(call, text, &time)) {
        return false;
    }
    int64_t base = unit.is_relative ? (int64_t)kv__stamp_ms(call) : 0;
    if (time <= 0 || (unit.is_seconds && time > INT64_MAX / 1000) ||
        (unit.is_seconds ? time * 1000 : time) > INT64_MAX - base) {
        reply_error(call->reply, "ERR invalid expire time in '%s' command",
                    call->entry->command.name);
        return false;
    }
    *expire_ms = (uint64_t)((unit.is_seconds ? time * 1000 : time) + base);
    return true;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static int set_with_options(struct kv_call *call)
{
    struct set_options options = {0};
    uint64_t expire_ms = 0;
    if (!parse_set_options(call, &options)) {
        return 0;
    }
    if (options.expiry != NULL &&
        !kv__parse_expiry(call, *options.expiry, options.unit, &expire_ms)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value before;
    kv__key_init(&key, call->arguments[0]);
    bool does_look =
        options.is_only_new || options.is_only_old || options.is_get || options.is_keep_ttl;
    int status = options.is_get ? kv__key_lookup(call, &key, &before)
                 : does_look    ? kv__key_lookup_head(call, &key, &before)
                                : replaced_lookup(call, &key, &before);
    if (status != 0) {
        return status;
    }
    if (options.is_get) {
        if (kv__is_wrong_type(call, &before, KV_TYPE_STRING)) {
            return 0;
        }
        reply_value(call, &before);
    }
    bool does_exist = before.type != KV_TYPE_NONE;
    if ((options.is_only_new && does_exist) || (options.is_only_old && !does_exist)) {
        if (!options.is_get) {
            reply_null(call->reply);
        }
        return 0;
    }
    if (options.is_keep_ttl) {
        expire_ms = before.expire_ms;
    }
    write_string(call, &key, &before, call->arguments[1], expire_ms);
    if (!options.is_get) {
        reply_ok(call->reply);
    }
    return 0;
}

int kv__command_set(struct kv_call *call)
{
    if (call->argument_count > 2) {
        return set_with_options(call);
    }
    struct kv_key key;
    struct kv_value before;
    kv__key_init(&key, call->arguments[0]);
    int status = replaced_lookup(call, &key, &before);
    if (status != 0) {
        return status;
    }
    struct kv_value after = {.type = KV_TYPE_STRING, .data = call->arguments[1]};
    kv__key_write(call, &key, &before, &after);
    reply_ok(call->reply);
    return 0;
}

int kv__command_setnx(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    kv__key_init(&key, call->arguments[0]);
    int status = kv__key_lookup_head(call, &key, &before);
    if (status != 0) {
        return status;
    }
    if (before.type == KV_TYPE_NONE) {
        write_string(call, &key, &before, call->arguments[1], 0);
    }
    reply_integer(call->reply, before.type == KV_TYPE_NONE);
    return 0;
}

static int set_with_expiry(struct kv_call *call, struct kv__expiry_unit unit)
{
    uint64_t expire_ms;
    if (!kv__parse_expiry(call, call->arguments[1], unit, &expire_ms)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value before;
    kv__key_init(&key, call->arguments[0]);
    int status = replaced_lookup(call, &key, &before);
    if (status != 0) {
        return status;
    }
    write_string(call, &key, &before, call->arguments[2], expire_ms);
    reply_ok(call->reply);
    return 0;
}

int kv__command_setex(struct kv_call *call)
{
    return set_with_expiry(call, (struct kv__expiry_unit){.is_seconds = true, .is_relative = true});
}

int kv__command_psetex(struct kv_call *call)
{
    return set_with_expiry(call, (struct kv__expiry_unit){.is_relative = true});
}

int kv__command_getset(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &before);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_value(call, &before);
    write_string(call, &key, &before, call->arguments[1], 0);
    return 0;
}

int kv__command_getdel(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &before);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_value(call, &before);
    kv__key_delete(call, &key, &before);
    return 0;
}

static bool parse_getex_options(struct kv_call *call, struct set_options *options)
{
    for (uint32_t i = 1; i < call->argument_count; i++) {
        if (kv__is_word(call->arguments[i], "persist") && options->expiry == NULL) {
            options->is_persist = true;
        } else if (!parse_expiry_option(call, &i, options)) {
            kv__reply_syntax_error(call);
            return false;
        }
    }
    return true;
}

int kv__command_getex(struct kv_call *call)
{
    struct set_options options = {0};
    if (!parse_getex_options(call, &options)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value value;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &value);
    if (status != 0) {
        return kv__ended(status);
    }
    /* Redis looks at the time only when there is a key. */
    uint64_t expire_ms = 0;
    if (value.type != KV_TYPE_NONE && options.expiry != NULL &&
        !kv__parse_expiry(call, *options.expiry, options.unit, &expire_ms)) {
        return 0;
    }
    reply_value(call, &value);
    bool is_change = options.expiry != NULL || (options.is_persist && value.expire_ms != 0);
    if (value.type != KV_TYPE_NONE && is_change) {
        write_string(call, &key, &value, value.data, expire_ms);
    }
    return 0;
}

/* ---- Several keys ---------------------------------------------------------------------------- */

static int set_pairs(struct kv_call *call)
{
    for (uint32_t i = 0; i < call->argument_count; i += 2) {
        struct kv_key key;
        struct kv_value before;
        kv__key_init(&key, call->arguments[i]);
        int status = kv__key_lookup_head(call, &key, &before);
        if (status != 0) {
            return status;
        }
        write_string(call, &key, &before, call->arguments[i + 1], 0);
    }
    return 0;
}

int kv__command_mset(struct kv_call *call)
{
    int status = set_pairs(call);
    if (status == 0) {
        reply_ok(call->reply);
    }
    return status;
}

int kv__command_msetnx(struct kv_call *call)
{
    for (uint32_t i = 0; i < call->argument_count; i += 2) {
        struct kv_key key;
        struct kv_value value;
        kv__key_init(&key, call->arguments[i]);
        int status = kv__key_lookup_head(call, &key, &value);
        if (status != 0) {
            return status;
        }
        if (value.type != KV_TYPE_NONE) {
            reply_integer(call->reply, 0);
            return 0;
        }
    }
    int status = set_pairs(call);
    if (status == 0) {
        reply_integer(call->reply, 1);
    }
    return status;
}
