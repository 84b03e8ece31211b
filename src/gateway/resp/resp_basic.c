/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the connection itself: greeting, authentication, and small things. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/number/number.h"
#include "gateway/resp/resp_internal.h"

/* ---- The password ---------------------------------------------------------------------------- */

bool resp__password_set(struct resp_group *group, struct bytes password)
{
    if (password.size_bytes > sizeof group->password) {
        return false;
    }
    os_mutex_lock(group->mutex);
    memset(group->password, 0, sizeof group->password);
    if (password.size_bytes > 0) {
        memcpy(group->password, password.data, password.size_bytes);
    }
    group->password_size_bytes = password.size_bytes;
    os_mutex_unlock(group->mutex);
    atomic_store(&group->has_password, password.size_bytes > 0);
    return true;
}

bool resp__password_is(struct resp_group *group, struct bytes password)
{
    char given[RESP_PASSWORD_SIZE_MAX] = {0};
    size_t size = password.size_bytes < sizeof given ? password.size_bytes : sizeof given;
    if (size > 0) {
        memcpy(given, password.data, size);
    }
    os_mutex_lock(group->mutex);
    /* Every byte is looked at, so that the time tells nothing about where they differ. */
    volatile uint8_t difference = password.size_bytes != group->password_size_bytes;
    for (size_t i = 0; i < sizeof given; i++) {
        difference |= (uint8_t)(given[i] ^ group->password[i]);
    }
    os_mutex_unlock(group->mutex);
    return difference == 0;
}

/* Errors are replied; true: the connection is authenticated. */
static bool authenticate(struct connection *connection, struct bytes user, struct bytes password,
                         const struct reply *reply)
{
    struct resp_group *group = connection->server->group;
    bool is_known = bytes_equal(user, BYTES("default"));
    bool is_right = resp__password_is(group, password) || !atomic_load(&group->has_password);
    if (!is_known || !is_right) {
        reply_error(reply, "WRONGPASS invalid username-password pair or user is disabled.");
        return false;
    }
    resp__connection_authenticated(connection);
    return true;
}

RESP_HANDLER(auth)
{
    if (count > 3) {
        resp__reply_syntax(reply);
        return HANDLED_DONE;
    }
    if (count == 2 && !atomic_load(&connection->server->group->has_password)) {
        reply_error(reply, "ERR AUTH <password> called without any password configured for the "
                           "default user. Are you sure your configuration is correct?");
        return HANDLED_DONE;
    }
    struct bytes user = count == 3 ? arguments[1] : BYTES("default");
    if (authenticate(connection, user, arguments[count - 1], reply)) {
        reply_ok(reply);
    }
    return HANDLED_DONE;
}

/* ---- HELLO ----------------------------------------------------------------------------------- */

bool resp__name_is_clean(struct bytes name)
{
    for (size_t i = 0; i < name.size_bytes; i++) {
        if (name.data[i] < '!' || name.data[i] > '~') {
            return false;
        }
    }
    return true;
}

static void reply_hello(const struct connection *connection, const struct reply *reply)
{
    reply_map(reply, 7);
    reply_bulk_text(reply, "server");
    reply_bulk_text(reply, "redis");
    reply_bulk_text(reply, "version");
    reply_bulk_text(reply, RESP_REDIS_VERSION);
    reply_bulk_text(reply, "proto");
    reply_integer(reply, connection->protocol);
    reply_bulk_text(reply, "id");
    reply_integer(reply, (int64_t)connection->id);
    reply_bulk_text(reply, "mode");
    reply_bulk_text(reply, "standalone");
    reply_bulk_text(reply, "role");
    reply_bulk_text(reply, "master");
    reply_bulk_text(reply, "modules");
    reply_array(reply, 0);
}

struct hello {
    int64_t protocol;
    bool has_user;
    struct bytes user;
    struct bytes password;
    bool has_name;
    struct bytes name;
};

/* False: the error is replied. */
static bool hello_parse(struct hello *hello, const struct bytes *arguments, uint32_t count,
                        const struct reply *reply)
{
    if (count > 1 && !number_parse_integer(arguments[1], &hello->protocol)) {
        reply_error(reply, "ERR Protocol version is not an integer or out of range");
        return false;
    }
    if (hello->protocol != 2 && hello->protocol != 3) {
        reply_error(reply, "NOPROTO unsupported protocol version");
        return false;
    }
    for (uint32_t i = 2; i < count; i++) {
        if (resp__is(arguments[i], "AUTH") && i + 2 < count) {
            hello->has_user = true;
            hello->user = arguments[i + 1];
            hello->password = arguments[i + 2];
            i += 2;
        } else if (resp__is(arguments[i], "SETNAME") && i + 1 < count) {
            hello->has_name = true;
            hello->name = arguments[++i];
        } else {
            int size = arguments[i].size_bytes < 128 ? (int)arguments[i].size_bytes : 128;
            reply_error(reply, "ERR Syntax error in HELLO option '%.*s'", size,
                        (const char *)arguments[i].data);
            return false;
        }
    }
    if (hello->has_name && !resp__name_is_clean(hello->name)) {
        reply_error(reply, "ERR Client names cannot contain spaces, newlines or special "
                           "characters.");
        return false;
    }
    return true;
}

RESP_HANDLER(hello)
{
    struct hello hello = {.protocol = connection->protocol};
    if (!hello_parse(&hello, arguments, count, reply)) {
        return HANDLED_DONE;
    }
    if (hello.has_user && !authenticate(connection, hello.user, hello.password, reply)) {
        return HANDLED_DONE;
    }
    if (!connection->is_authenticated) {
        reply_error(reply, "NOAUTH HELLO must be called with the client already authenticated, "
                           "otherwise the HELLO <proto> AUTH <user> <pass> option can be used to "
                           "authenticate the client and select the RESP protocol version at the "
                           "same time");
        return HANDLED_DONE;
    }
    if (hello.has_name) {
        struct connection_extra *extra = resp__connection_extra(connection);
        buffer_clear(&extra->name);
        buffer_append(&extra->name, hello.name);
    }
    connection->protocol = (uint8_t)hello.protocol;
    struct reply greeting = {.target = reply->target, .protocol = connection->protocol};
    reply_hello(connection, &greeting);
    return HANDLED_DONE;
}

/* ---- Small things ---------------------------------------------------------------------------- */

RESP_HANDLER(ping)
{
    if (count > 2) {
        resp__reply_arity(reply, "ping");
    } else if (count == 2) {
        reply_bulk(reply, arguments[1]);
    } else {
        reply_status(reply, "PONG");
    }
    return HANDLED_DONE;
}

RESP_HANDLER(echo)
{
    reply_bulk(reply, arguments[1]);
    return HANDLED_DONE;
}

RESP_HANDLER(select)
{
    int64_t index;
    if (!number_parse_integer(arguments[1], &index)) {
        reply_error(reply, "ERR value is not an integer or out of range");
    } else if (index < INT32_MIN || index > INT32_MAX) {
        reply_error(reply, "ERR value is out of range, value must between -2147483648 and "
                           "2147483647");
    } else if (index != 0) {
        reply_error(reply, "ERR DB index is out of range");
    } else {
        reply_ok(reply);
    }
    return HANDLED_DONE;
}

RESP_HANDLER(quit)
{
    reply_ok(reply);
    resp__connection_finish(connection);
    return HANDLED_DONE;
}

RESP_HANDLER(reset)
{
    resp__transaction_drop(connection);
    struct connection_extra *extra = connection->extra;
    if (extra != NULL) {
        buffer_clear(&extra->name);
    }
    connection->protocol = 2;
    connection->reply_mode = REPLY_MODE_ON;
    connection->is_touching = true;
    connection->is_protected = false;
    connection->is_cluster = false;
    connection->is_readonly = false;
    if (connection->is_authenticated && atomic_load(&connection->server->group->has_password)) {
        struct resp_server *server = connection->server;
        connection->is_authenticated = false;
        connection->created_at_ms = os_loop_now_ms(server->loop); /* Its time begins anew. */
        list_push_back(&server->strangers, &connection->stranger_link);
        server->stranger_count++;
    }
    struct reply fresh = resp__reply_target(connection);
    size_t before = fresh.target->size_bytes;
    reply_status(&fresh, "RESET");
    if (fresh.target != reply->target) {
        resp__reply_written(connection, &fresh, before);
    }
    return HANDLED_DONE;
}

RESP_HANDLER(time)
{
    uint64_t now_us = os_wall_clock_us();
    reply_array(reply, 2);
    reply_bulk_integer(reply, (int64_t)(now_us / 1000000));
    reply_bulk_integer(reply, (int64_t)(now_us % 1000000));
    return HANDLED_DONE;
}

/* The reply stands behind those of the connection's earlier writes, and those are durable when they
 * are answered; so there is nothing to wait for, and a lone node has no replicas. */
RESP_HANDLER(wait)
{
    int64_t replica_count;
    int64_t timeout_ms;
    if (!number_parse_integer(arguments[1], &replica_count)) {
        reply_error(reply, "ERR value is not an integer or out of range");
    } else if (!number_parse_integer(arguments[2], &timeout_ms)) {
        reply_error(reply, "ERR timeout is not an integer or out of range");
    } else if (timeout_ms < 0) {
        reply_error(reply, "ERR timeout is negative");
    } else {
        reply_integer(reply, 0);
    }
    return HANDLED_DONE;
}

RESP_HANDLER(waitaof)
{
    int64_t local_count;
    int64_t replica_count;
    int64_t timeout_ms;
    if (!number_parse_integer(arguments[1], &local_count)) {
        reply_error(reply, "ERR value is not an integer or out of range");
        return HANDLED_DONE;
    }
    if (local_count < 0 || local_count > 1) {
        reply_error(reply, "ERR value is out of range, value must between 0 and 1");
        return HANDLED_DONE;
    }
    if (!number_parse_integer(arguments[2], &replica_count) || replica_count < 0) {
        reply_error(reply, "ERR value is out of range, must be positive");
        return HANDLED_DONE;
    }
    if (!number_parse_integer(arguments[3], &timeout_ms)) {
        reply_error(reply, "ERR timeout is not an integer or out of range");
        return HANDLED_DONE;
    }
    if (timeout_ms < 0) {
        reply_error(reply, "ERR timeout is negative");
        return HANDLED_DONE;
    }
    struct resp_information information = {0};
    connection->server->backend->get_information(connection->server->backend->context,
                                                 &information);
    reply_array(reply, 2);
    reply_integer(reply, information.is_flush_always ? 1 : 0);
    reply_integer(reply, 0);
    return HANDLED_DONE;
}

RESP_HANDLER(lastsave)
{
    const struct resp_backend *backend = connection->server->backend;
    struct resp_information information = {0};
    backend->get_information(backend->context, &information);
    reply_integer(reply, (int64_t)(information.durable_at_ms / 1000));
    return HANDLED_DONE;
}

RESP_HANDLER(lolwut)
{
    reply_verbatim(reply, "txt",
                   BYTES("tutti: all together, as one.\ntutti ver. " TUTTI_VERSION "\n"));
    return HANDLED_DONE;
}

/* SAVE and NOSAVE exclude each other, ABORT all others. */
static bool shutdown_is_well_formed(const struct bytes *arguments, uint32_t count)
{
    enum { WORD_SAVE, WORD_NOSAVE, WORD_ABORT, WORD_NOW, WORD_FORCE, WORD_COUNT };
    static const char *const words[WORD_COUNT] = {"SAVE", "NOSAVE", "ABORT", "NOW", "FORCE"};
    bool has[WORD_COUNT] = {false};
    for (uint32_t i = 1; i < count; i++) {
        uint32_t word = 0;
        while (word < WORD_COUNT && !resp__is(arguments[i], words[word])) {
            word++;
        }
        if (word == WORD_COUNT) {
            return false;
        }
        has[word] = true;
    }
    bool has_other = has[WORD_SAVE] || has[WORD_NOSAVE] || has[WORD_NOW] || has[WORD_FORCE];
    return !(has[WORD_SAVE] && has[WORD_NOSAVE]) && !(has[WORD_ABORT] && has_other);
}

RESP_HANDLER(shutdown)
{
    if (!shutdown_is_well_formed(arguments, count)) {
        resp__reply_syntax(reply);
        return HANDLED_DONE;
    }
    bool is_abort = count > 1 && resp__is(arguments[1], "ABORT");
    const struct resp_backend *backend = connection->server->backend;
    if (is_abort) {
        reply_error(reply, "ERR No shutdown in progress.");
    } else if (backend->stop_node == NULL) {
        reply_error(reply, "ERR this node is not stopped by clients");
    } else {
        /* As Redis does: no reply, the connection closes. */
        resp__event(connection->server, "resp.shutdown", "client_id=%llu",
                    (unsigned long long)connection->id);
        resp__connection_finish(connection);
        backend->stop_node(backend->context);
    }
    return HANDLED_DONE;
}
