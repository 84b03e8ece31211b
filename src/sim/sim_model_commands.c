/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the model, after the documentation of Redis 7.2. Arguments were checked for their
 * number by whoever made the command. */
#include <string.h>

#include "base/number/number.h"
#include "sim/sim_internal.h"

static struct bytes argument(const struct sim__call *call, uint32_t i)
{
    return call->arguments[i];
}

static bool argument_is(const struct sim__call *call, uint32_t i, const char *text)
{
    return bytes_equal_ignoring_case(call->arguments[i], bytes_of_text(text));
}

static struct sim__key *find(struct sim__call *call, uint32_t i)
{
    return sim__model_find(call->model, call->arguments[i], call->time_ms);
}

static struct sim__key *find_or_make(struct sim__call *call, uint32_t i)
{
    struct sim__key *key = find(call, i);
    return key != NULL ? key : sim__model_make(call->model, call->arguments[i]);
}

static void changed(struct sim__call *call, struct sim__key *key)
{
    key->version = call->version;
}

/* True, after answering, when the key is of the other type. */
static bool is_wrong_type(struct sim__call *call, const struct sim__key *key, bool wants_hash)
{
    if (key == NULL || key->is_hash == wants_hash) {
        return false;
    }
    reply_error(call->reply, "WRONGTYPE Operation against a key holding the wrong kind of value");
    return true;
}

static bool parse(struct sim__call *call, uint32_t i, int64_t *value)
{
    if (number_parse_integer(call->arguments[i], value)) {
        return true;
    }
    reply_error(call->reply, "ERR value is not an integer or out of range");
    return false;
}

/* An option like EX 10: the time in milliseconds since 1970. */
static bool option_time(struct sim__call *call, uint32_t i, uint64_t *time_ms)
{
    int64_t value = 0;
    if (!number_parse_integer(call->arguments[i + 1], &value)) {
        return false;
    }
    int64_t now = (int64_t)call->time_ms;
    if (argument_is(call, i, "EX")) {
        *time_ms = (uint64_t)(now + value * 1000);
    } else if (argument_is(call, i, "PX")) {
        *time_ms = (uint64_t)(now + value);
    } else if (argument_is(call, i, "EXAT")) {
        *time_ms = (uint64_t)(value * 1000);
    } else if (argument_is(call, i, "PXAT")) {
        *time_ms = (uint64_t)value;
    } else {
        return false;
    }
    return true;
}

static void answer_string(struct sim__call *call, const struct sim__key *key)
{
    if (key == NULL) {
        reply_null(call->reply);
    } else {
        reply_bulk(call->reply, buffer_bytes(&key->value));
    }
}

/* ---- Strings --------------------------------------------------------------------------------- */

static void run_set(struct sim__call *call)
{
    bool is_new_only = false;
    bool is_old_only = false;
    bool does_get = false;
    bool does_keep = false;
    uint64_t expire_ms = 0;
    for (uint32_t i = 2; i < call->argument_count; i++) {
        if (argument_is(call, i, "NX")) {
            is_new_only = true;
        } else if (argument_is(call, i, "XX")) {
            is_old_only = true;
        } else if (argument_is(call, i, "GET")) {
            does_get = true;
        } else if (argument_is(call, i, "KEEPTTL")) {
            does_keep = true;
        } else if (option_time(call, i, &expire_ms)) {
            i++;
        }
    }
    struct sim__key *key = find(call, 0);
    if (does_get) {
        if (is_wrong_type(call, key, false)) {
            return;
        }
        answer_string(call, key);
    }
    if ((is_new_only && key != NULL) || (is_old_only && key == NULL)) {
        if (!does_get) {
            reply_null(call->reply);
        }
        return;
    }
    key = find_or_make(call, 0);
    sim__key_become_string(key, argument(call, 1));
    if (!does_keep) {
        key->expire_ms = expire_ms;
    }
    changed(call, key);
    if (!does_get) {
        reply_ok(call->reply);
    }
}

static void run_setnx(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (key == NULL) {
        struct sim__key *made = sim__model_make(call->model, argument(call, 0));
        sim__key_become_string(made, argument(call, 1));
        changed(call, made);
    }
    reply_integer(call->reply, key == NULL);
}

static void run_get(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    if (!is_wrong_type(call, key, false)) {
        answer_string(call, key);
    }
}

static void run_getset(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, false)) {
        return;
    }
    answer_string(call, key);
    key = find_or_make(call, 0);
    sim__key_become_string(key, argument(call, 1));
    key->expire_ms = 0;
    changed(call, key);
}

static void run_getdel(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, false)) {
        return;
    }
    answer_string(call, key);
    if (key != NULL) {
        sim__model_remove(call->model, key);
    }
}

static void run_getex(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, false)) {
        return;
    }
    answer_string(call, key);
    if (key == NULL || call->argument_count < 2) {
        return;
    }
    if (argument_is(call, 1, "PERSIST")) {
        if (key->expire_ms != 0) {
            key->expire_ms = 0;
            changed(call, key);
        }
        return;
    }
    uint64_t expire_ms = 0;
    if (!option_time(call, 1, &expire_ms)) {
        return;
    }
    if (expire_ms <= call->time_ms) {
        sim__model_remove(call->model, key);
        return;
    }
    key->expire_ms = expire_ms;
    changed(call, key);
}

static void run_mget(struct sim__call *call)
{
    reply_array(call->reply, call->argument_count);
    for (uint32_t i = 0; i < call->argument_count; i++) {
        const struct sim__key *key = find(call, i);
        answer_string(call, key != NULL && key->is_hash ? NULL : key);
    }
}

static void set_pairs(struct sim__call *call)
{
    for (uint32_t i = 0; i + 1 < call->argument_count; i += 2) {
        struct sim__key *key = find_or_make(call, i);
        sim__key_become_string(key, argument(call, i + 1));
        key->expire_ms = 0;
        changed(call, key);
    }
}

static void run_mset(struct sim__call *call)
{
    set_pairs(call);
    reply_ok(call->reply);
}

static void run_msetnx(struct sim__call *call)
{
    for (uint32_t i = 0; i < call->argument_count; i += 2) {
        if (find(call, i) != NULL) {
            reply_integer(call->reply, 0);
            return;
        }
    }
    set_pairs(call);
    reply_integer(call->reply, 1);
}

static void run_append(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, false)) {
        return;
    }
    key = find_or_make(call, 0);
    buffer_append(&key->value, argument(call, 1));
    changed(call, key);
    reply_integer(call->reply, (int64_t)key->value.size_bytes);
}

static void run_strlen(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    if (!is_wrong_type(call, key, false)) {
        reply_integer(call->reply, key == NULL ? 0 : (int64_t)key->value.size_bytes);
    }
}

static void add(struct sim__call *call, int64_t amount)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, false)) {
        return;
    }
    int64_t before = 0;
    if (key != NULL && !number_parse_integer(buffer_bytes(&key->value), &before)) {
        reply_error(call->reply, "ERR value is not an integer or out of range");
        return;
    }
    int64_t after;
    if (__builtin_add_overflow(before, amount, &after)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return;
    }
    char text[NUMBER_INTEGER_SIZE_MAX];
    size_t length = number_format_integer(text, after);
    key = find_or_make(call, 0);
    sim__assign(&key->value, bytes_make(text, length));
    changed(call, key);
    reply_integer(call->reply, after);
}

static void run_incr(struct sim__call *call)
{
    add(call, 1);
}

static void run_decr(struct sim__call *call)
{
    add(call, -1);
}

static void run_incrby(struct sim__call *call)
{
    int64_t amount;
    if (parse(call, 1, &amount)) {
        add(call, amount);
    }
}

static void run_getrange(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    int64_t start;
    int64_t end;
    if (!parse(call, 1, &start) || !parse(call, 2, &end) || is_wrong_type(call, key, false)) {
        return;
    }
    int64_t length = key == NULL ? 0 : (int64_t)key->value.size_bytes;
    bool is_empty = start < 0 && end < 0 && start > end;
    start = start < 0 ? start + length : start;
    end = end < 0 ? end + length : end;
    start = start < 0 ? 0 : start;
    end = end < 0 ? 0 : end;
    end = end >= length ? length - 1 : end;
    if (is_empty || length == 0 || start > end) {
        reply_bulk(call->reply, BYTES(""));
        return;
    }
    reply_bulk(call->reply, bytes_make(key->value.data + start, (size_t)(end - start + 1)));
}

static void run_setrange(struct sim__call *call)
{
    int64_t offset;
    if (!parse(call, 1, &offset)) {
        return;
    }
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, false)) {
        return;
    }
    struct bytes piece = argument(call, 2);
    if (piece.size_bytes > 0) {
        key = find_or_make(call, 0);
        while (key->value.size_bytes < (uint64_t)offset + piece.size_bytes) {
            buffer_append_byte(&key->value, 0);
        }
        memcpy(key->value.data + offset, piece.data, piece.size_bytes);
        changed(call, key);
    }
    reply_integer(call->reply, key == NULL ? 0 : (int64_t)key->value.size_bytes);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static void run_del(struct sim__call *call)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < call->argument_count; i++) {
        struct sim__key *key = find(call, i);
        if (key != NULL) {
            sim__model_remove(call->model, key);
            count++;
        }
    }
    reply_integer(call->reply, count);
}

static void run_exists(struct sim__call *call)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < call->argument_count; i++) {
        count += find(call, i) != NULL;
    }
    reply_integer(call->reply, count);
}

static void run_type(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    reply_status(call->reply, key == NULL ? "none" : key->is_hash ? "hash" : "string");
}

static void expire(struct sim__call *call, uint64_t unit_ms, bool is_absolute)
{
    int64_t value;
    if (!parse(call, 1, &value)) {
        return;
    }
    int64_t when = value * (int64_t)unit_ms + (is_absolute ? 0 : (int64_t)call->time_ms);
    struct sim__key *key = find(call, 0);
    if (key == NULL) {
        reply_integer(call->reply, 0);
        return;
    }
    bool is_refused = false;
    int64_t current = (int64_t)key->expire_ms;
    for (uint32_t i = 2; i < call->argument_count; i++) {
        is_refused = is_refused || (argument_is(call, i, "NX") && current != 0) ||
                     (argument_is(call, i, "XX") && current == 0) ||
                     (argument_is(call, i, "GT") && (current == 0 || when <= current)) ||
                     (argument_is(call, i, "LT") && current != 0 && when >= current);
    }
    if (is_refused) {
        reply_integer(call->reply, 0);
        return;
    }
    if (when <= (int64_t)call->time_ms) {
        sim__model_remove(call->model, key);
    } else {
        key->expire_ms = (uint64_t)when;
        changed(call, key);
    }
    reply_integer(call->reply, 1);
}

static void run_expire(struct sim__call *call)
{
    expire(call, 1000, false);
}

static void run_pexpire(struct sim__call *call)
{
    expire(call, 1, false);
}

static void run_pexpireat(struct sim__call *call)
{
    expire(call, 1, true);
}

static void run_pttl(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    reply_integer(call->reply, key == NULL           ? -2
                               : key->expire_ms == 0 ? -1
                                                     : (int64_t)(key->expire_ms - call->time_ms));
}

static void run_pexpiretime(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    reply_integer(call->reply, key == NULL           ? -2
                               : key->expire_ms == 0 ? -1
                                                     : (int64_t)key->expire_ms);
}

static void run_persist(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    bool is_done = key != NULL && key->expire_ms != 0;
    if (is_done) {
        key->expire_ms = 0;
        changed(call, key);
    }
    reply_integer(call->reply, is_done);
}

/* The second key gets the content and the expiry of the first. */
static void overwrite(struct sim__call *call)
{
    struct sim__key *target = find_or_make(call, 1);
    sim__key_copy_content(target, find(call, 0));
    changed(call, target);
}

static void rename_key(struct sim__call *call, bool is_new_only)
{
    if (find(call, 0) == NULL) {
        reply_error(call->reply, "ERR no such key");
        return;
    }
    bool is_same = bytes_equal(argument(call, 0), argument(call, 1));
    bool is_taken = is_new_only && find(call, 1) != NULL;
    if (!is_same && !is_taken) {
        overwrite(call);
        sim__model_remove(call->model, find(call, 0));
    }
    if (is_new_only) {
        reply_integer(call->reply, !is_same && !is_taken);
    } else {
        reply_ok(call->reply);
    }
}

static void run_rename(struct sim__call *call)
{
    rename_key(call, false);
}

static void run_renamenx(struct sim__call *call)
{
    rename_key(call, true);
}

static void run_copy(struct sim__call *call)
{
    bool does_replace = call->argument_count > 2 && argument_is(call, 2, "REPLACE");
    if (bytes_equal(call->arguments[0], call->arguments[1])) {
        reply_error(call->reply, "ERR source and destination objects are the same");
        return;
    }
    if (find(call, 0) == NULL || (!does_replace && find(call, 1) != NULL)) {
        reply_integer(call->reply, 0);
        return;
    }
    overwrite(call);
    reply_integer(call->reply, 1);
}

static void drop_expired(struct sim__call *call)
{
    struct sim__model *model = call->model;
    for (uint32_t i = model->key_count; i > 0; i--) {
        struct sim__key *key = &model->keys[i - 1];
        if (key->expire_ms != 0 && key->expire_ms <= call->time_ms) {
            sim__model_remove(model, key);
        }
    }
}

static void answer_all_keys(struct sim__call *call)
{
    drop_expired(call);
    reply_array(call->reply, call->model->key_count);
    for (uint32_t i = 0; i < call->model->key_count; i++) {
        reply_bulk(call->reply, buffer_bytes(&call->model->keys[i].name));
    }
}

/* With a pattern that all keys match. */
static void run_keys(struct sim__call *call)
{
    answer_all_keys(call);
}

/* With a count that no keyspace here exceeds. */
static void run_scan(struct sim__call *call)
{
    reply_array(call->reply, 2);
    reply_bulk_text(call->reply, "0");
    answer_all_keys(call);
}

static void run_flushall(struct sim__call *call)
{
    sim__model_clear(call->model);
    reply_ok(call->reply);
}

/* ---- Hashes ---------------------------------------------------------------------------------- */

static void run_hset(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, true)) {
        return;
    }
    key = find_or_make(call, 0);
    key->is_hash = true;
    int64_t count = 0;
    for (uint32_t i = 1; i + 1 < call->argument_count; i += 2) {
        count += sim__key_field(key, argument(call, i)) == NULL;
        sim__key_put_field(key, argument(call, i), argument(call, i + 1));
    }
    changed(call, key);
    reply_integer(call->reply, count);
}

static void run_hsetnx(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, true)) {
        return;
    }
    if (key != NULL && sim__key_field(key, argument(call, 1)) != NULL) {
        reply_integer(call->reply, 0);
        return;
    }
    key = find_or_make(call, 0);
    key->is_hash = true;
    sim__key_put_field(key, argument(call, 1), argument(call, 2));
    changed(call, key);
    reply_integer(call->reply, 1);
}

static void run_hget(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, true)) {
        return;
    }
    const struct sim__field *field = key == NULL ? NULL : sim__key_field(key, argument(call, 1));
    if (field == NULL) {
        reply_null(call->reply);
    } else {
        reply_bulk(call->reply, buffer_bytes(&field->value));
    }
}

static void run_hmget(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, true)) {
        return;
    }
    reply_array(call->reply, call->argument_count - 1);
    for (uint32_t i = 1; i < call->argument_count; i++) {
        const struct sim__field *field =
            key == NULL ? NULL : sim__key_field(key, argument(call, i));
        if (field == NULL) {
            reply_null(call->reply);
        } else {
            reply_bulk(call->reply, buffer_bytes(&field->value));
        }
    }
}

static void run_hdel(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, true)) {
        return;
    }
    int64_t count = 0;
    for (uint32_t i = 1; i < call->argument_count && key != NULL; i++) {
        struct sim__field *field = sim__key_field(key, argument(call, i));
        if (field != NULL) {
            sim__key_drop_field(key, field);
            count++;
        }
    }
    if (count > 0) {
        changed(call, key);
        if (key->field_count == 0) {
            sim__model_remove(call->model, key);
        }
    }
    reply_integer(call->reply, count);
}

static void run_hlen(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    if (!is_wrong_type(call, key, true)) {
        reply_integer(call->reply, key == NULL ? 0 : key->field_count);
    }
}

static void run_hexists(struct sim__call *call)
{
    struct sim__key *key = find(call, 0);
    if (!is_wrong_type(call, key, true)) {
        reply_integer(call->reply, key != NULL && sim__key_field(key, argument(call, 1)) != NULL);
    }
}

static void run_hgetall(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, true)) {
        return;
    }
    uint32_t count = key == NULL ? 0 : key->field_count;
    reply_map(call->reply, count);
    for (uint32_t i = 0; i < count; i++) {
        reply_bulk(call->reply, buffer_bytes(&key->fields[i].name));
        reply_bulk(call->reply, buffer_bytes(&key->fields[i].value));
    }
}

static void answer_fields(struct sim__call *call, bool has_names, bool has_values)
{
    const struct sim__key *key = find(call, 0);
    if (is_wrong_type(call, key, true)) {
        return;
    }
    uint32_t count = key == NULL ? 0 : key->field_count;
    reply_array(call->reply, count * (has_names + (uint32_t)has_values));
    for (uint32_t i = 0; i < count; i++) {
        if (has_names) {
            reply_bulk(call->reply, buffer_bytes(&key->fields[i].name));
        }
        if (has_values) {
            reply_bulk(call->reply, buffer_bytes(&key->fields[i].value));
        }
    }
}

static void run_hkeys(struct sim__call *call)
{
    answer_fields(call, true, false);
}

static void run_hvals(struct sim__call *call)
{
    answer_fields(call, false, true);
}

static void run_hscan(struct sim__call *call)
{
    const struct sim__key *key = find(call, 0);
    if (key == NULL || key->is_hash) {
        reply_array(call->reply, 2);
        reply_bulk_text(call->reply, "0");
    }
    answer_fields(call, true, true);
}

static void run_hincrby(struct sim__call *call)
{
    int64_t amount;
    struct sim__key *key = find(call, 0);
    if (!parse(call, 2, &amount) || is_wrong_type(call, key, true)) {
        return;
    }
    struct sim__field *field = key == NULL ? NULL : sim__key_field(key, argument(call, 1));
    int64_t before = 0;
    if (field != NULL && !number_parse_integer(buffer_bytes(&field->value), &before)) {
        reply_error(call->reply, "ERR hash value is not an integer");
        return;
    }
    int64_t after;
    if (__builtin_add_overflow(before, amount, &after)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return;
    }
    char text[NUMBER_INTEGER_SIZE_MAX];
    size_t length = number_format_integer(text, after);
    key = find_or_make(call, 0);
    key->is_hash = true;
    sim__key_put_field(key, argument(call, 1), bytes_make(text, length));
    changed(call, key);
    reply_integer(call->reply, after);
}

const struct sim__model_command sim__model_commands[] = {
    {"set", run_set, false},           {"setnx", run_setnx, false},
    {"get", run_get, false},           {"getset", run_getset, false},
    {"getdel", run_getdel, false},     {"getex", run_getex, false},
    {"mget", run_mget, false},         {"mset", run_mset, false},
    {"msetnx", run_msetnx, false},     {"append", run_append, false},
    {"strlen", run_strlen, false},     {"incr", run_incr, false},
    {"decr", run_decr, false},         {"incrby", run_incrby, false},
    {"getrange", run_getrange, false}, {"setrange", run_setrange, false},
    {"del", run_del, false},           {"unlink", run_del, false},
    {"exists", run_exists, false},     {"touch", run_exists, false},
    {"type", run_type, false},         {"expire", run_expire, false},
    {"pexpire", run_pexpire, false},   {"pexpireat", run_pexpireat, false},
    {"pttl", run_pttl, false},         {"pexpiretime", run_pexpiretime, false},
    {"persist", run_persist, false},   {"rename", run_rename, false},
    {"renamenx", run_renamenx, false}, {"copy", run_copy, false},
    {"flushall", run_flushall, false}, {"flushdb", run_flushall, false},
    {"hset", run_hset, false},         {"hsetnx", run_hsetnx, false},
    {"hget", run_hget, false},         {"hmget", run_hmget, false},
    {"hdel", run_hdel, false},         {"hlen", run_hlen, false},
    {"hexists", run_hexists, false},   {"hgetall", run_hgetall, false},
    {"hincrby", run_hincrby, false},   {"hkeys", run_hkeys, false},
    {"hvals", run_hvals, false},       {"hscan", run_hscan, false},
    {"keys", run_keys, true},          {"scan", run_scan, true},
};
const uint32_t sim__model_command_count =
    sizeof sim__model_commands / sizeof sim__model_commands[0];
