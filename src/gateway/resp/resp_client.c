/* SPDX-License-Identifier: Apache-2.0 */
/* CLIENT. What concerns other connections is an errand: each server looks at its own. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "gateway/resp/resp_internal.h"

#define CLIENT_HANDLER(name)                                                               \
    static enum handled name(struct connection *connection, const struct bytes *arguments, \
                             uint32_t count, const struct reply *reply)

enum { CHOSEN_COUNT_MAX = 1024 };

/* ---- Describing a connection ----------------------------------------------------------------- */

static struct bytes extra_text(const struct connection *connection, struct buffer *buffer)
{
    return connection->extra == NULL ? BYTES("") : buffer_bytes(buffer);
}

/* The line of CLIENT LIST and INFO, with the fields of Redis 7.2 that mean something here. */
static void describe(const struct connection *connection, struct buffer *text)
{
    char peer[OS_ADDRESS_TEXT_SIZE];
    char local[OS_ADDRESS_TEXT_SIZE];
    const struct resp_server *server = connection->server;
    uint64_t now_ms = os_loop_now_ms(server->loop);
    struct connection_extra none = {0};
    struct connection_extra *extra = connection->extra == NULL ? &none : connection->extra;
    const char *command = "NULL";
    if (connection->last_command > 0) {
        command = server->group->commands.entries[connection->last_command - 1].command->name;
    }
    buffer_append_format(
        text, "id=%llu addr=%s laddr=%s fd=%d name=", (unsigned long long)connection->id,
        os_stream_peer(connection->stream, peer), os_stream_local(connection->stream, local),
        os_stream_descriptor(connection->stream));
    buffer_append(text, extra_text(connection, &extra->name));
    buffer_append_format(
        text,
        " age=%llu idle=%llu flags=%s%s%s%s%s db=0 sub=0 psub=0 ssub=0 multi=%d watch=%u qbuf=%zu "
        "qbuf-free=%zu argv-mem=%llu multi-mem=%llu rbs=0 rbp=0 obl=%zu oll=0 omem=%zu "
        "tot-mem=%llu events=r cmd=%s%s%s user=default redir=-1 resp=%d lib-name=",
        (unsigned long long)(now_ms - connection->created_at_ms) / 1000,
        (unsigned long long)(now_ms - connection->active_at_ms) / 1000,
        connection->is_in_multi ? "x" : "", connection->is_protected ? "e" : "",
        connection->is_touching ? "" : "T", connection->is_readonly ? "r" : "",
        !connection->is_in_multi && !connection->is_protected && connection->is_touching &&
                !connection->is_readonly
            ? "N"
            : "",
        connection->is_in_multi ? (int)extra->command_count : -1, extra->watched_count,
        connection->input.size_bytes,
        connection->input.capacity_bytes - connection->input.size_bytes,
        (unsigned long long)connection->pending_size_bytes,
        (unsigned long long)(connection->extra == NULL ? 0
                                                       : resp__transaction_size_bytes(connection)),
        connection->output.size_bytes, os_stream_queued_bytes(connection->stream),
        (unsigned long long)(connection->charged_bytes + sizeof *connection), command,
        connection->last_subcommand == NULL ? "" : "|",
        connection->last_subcommand == NULL ? "" : connection->last_subcommand,
        connection->protocol);
    buffer_append(text, extra_text(connection, &extra->library_name));
    buffer_append_format(text, " lib-ver=");
    buffer_append(text, extra_text(connection, &extra->library_version));
    buffer_append_byte(text, '\n');
}

/* ---- Choosing connections -------------------------------------------------------------------- */

struct chosen {
    struct errand errand; /* First. */
    struct slot *slot;
    uint64_t self_id;
    bool is_kill;
    bool is_old_form; /* CLIENT KILL addr. */
    bool is_skipping_self;
    bool is_nobody;    /* A type that no connection here has, an unknown user. */
    uint32_t id_count; /* 0: any. */
    uint64_t ids[CHOSEN_COUNT_MAX];
    char peer[OS_ADDRESS_TEXT_SIZE]; /* Empty: any. */
    char local[OS_ADDRESS_TEXT_SIZE];
    uint64_t age_s_min;
    struct buffer text;
    uint64_t killed_count;
};

static bool is_chosen(const struct chosen *chosen, const struct connection *connection)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    if (chosen->is_nobody || connection->is_hung_up ||
        (chosen->is_skipping_self && connection->id == chosen->self_id)) {
        return false;
    }
    bool is_listed = chosen->id_count == 0;
    for (uint32_t i = 0; i < chosen->id_count && !is_listed; i++) {
        is_listed = chosen->ids[i] == connection->id;
    }
    uint64_t age_ms = os_loop_now_ms(connection->server->loop) - connection->created_at_ms;
    return is_listed && age_ms / 1000 >= chosen->age_s_min &&
           (chosen->peer[0] == '\0' ||
            strcmp(chosen->peer, os_stream_peer(connection->stream, text)) == 0) &&
           (chosen->local[0] == '\0' ||
            strcmp(chosen->local, os_stream_local(connection->stream, text)) == 0);
}

static void visit(struct errand *errand, struct resp_server *server)
{
    struct chosen *chosen = LIST_ITEM(errand, struct chosen, errand);
    LIST_EACH(member, next, &server->connections)
    {
        struct connection *connection = LIST_ITEM(member, struct connection, link);
        if (!is_chosen(chosen, connection)) {
            continue;
        }
        if (!chosen->is_kill) {
            describe(connection, &chosen->text);
            continue;
        }
        chosen->killed_count++;
        if (connection->id == chosen->self_id) {
            resp__connection_finish(connection); /* It gets its reply. */
        } else {
            resp__connection_close(connection);
        }
    }
}

static void back(struct errand *errand)
{
    struct chosen *chosen = LIST_ITEM(errand, struct chosen, errand);
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = chosen->slot->request.protocol};
    errand->origin->is_choosing = false;
    if (!chosen->is_kill) {
        reply_verbatim(&reply, "txt", buffer_bytes(&chosen->text));
    } else if (!chosen->is_old_form) {
        reply_integer(&reply, (int64_t)chosen->killed_count);
    } else if (chosen->killed_count > 0) {
        reply_ok(&reply);
    } else {
        reply_error(&reply, "ERR No such client");
    }
    resp__slot_close(chosen->slot, 0, buffer_bytes(&answer));
    buffer_deinit(&answer);
    buffer_deinit(&chosen->text);
    memory_free(chosen);
}

static void send_off(struct connection *connection, struct chosen *chosen)
{
    struct resp_server *server = connection->server;
    chosen->slot = resp__slot_open(
        connection, resp__command_find(&server->group->commands, BYTES("client")), 0);
    chosen->self_id = connection->id;
    chosen->errand.visit = visit;
    chosen->errand.back = back;
    server->is_choosing = true; /* It may be back before this returns. */
    resp__errand_send(&chosen->errand, server);
}

/* Does a type of client exist here? False: the error is replied. */
static bool read_type(struct chosen *chosen, struct bytes type, const struct reply *reply)
{
    if (resp__is(type, "normal")) {
        return true;
    }
    if (resp__is(type, "master") || resp__is(type, "replica") || resp__is(type, "slave") ||
        resp__is(type, "pubsub")) {
        chosen->is_nobody = true;
        return true;
    }
    reply_error(reply, "ERR Unknown client type '%.*s'",
                type.size_bytes < 128 ? (int)type.size_bytes : 128, (const char *)type.data);
    return false;
}

static bool read_address(char *target, struct bytes address)
{
    if (address.size_bytes == 0 || address.size_bytes >= OS_ADDRESS_TEXT_SIZE) {
        return false;
    }
    memcpy(target, address.data, address.size_bytes);
    return true;
}

CLIENT_HANDLER(client_list)
{
    if (connection->server->is_choosing) {
        return HANDLED_LATER;
    }
    struct chosen *chosen = memory_allocate_zeroed(1, sizeof *chosen);
    bool is_good = true;
    if (count == 4 && resp__is(arguments[2], "TYPE")) {
        is_good = read_type(chosen, arguments[3], reply);
    } else if (count > 3 && resp__is(arguments[2], "ID")) {
        for (uint32_t i = 3; i < count && is_good; i++) {
            int64_t id = 0;
            is_good = number_parse_integer(arguments[i], &id) && id >= 0 &&
                      chosen->id_count < CHOSEN_COUNT_MAX;
            if (is_good) {
                chosen->ids[chosen->id_count++] = (uint64_t)id;
            } else {
                reply_error(reply, "ERR Invalid client ID");
            }
        }
    } else if (count > 2) {
        resp__reply_syntax(reply);
        is_good = false;
    }
    if (!is_good) {
        memory_free(chosen);
        return HANDLED_DONE;
    }
    send_off(connection, chosen);
    return HANDLED_DONE;
}

/* One option of CLIENT KILL and its value. False: the error is replied. */
static bool read_kill_option(struct chosen *chosen, struct bytes option, struct bytes value,
                             const struct reply *reply)
{
    int64_t number = 0;
    bool is_number = number_parse_integer(value, &number);
    if (resp__is(option, "ID")) {
        if (!is_number || number < 1 || chosen->id_count == CHOSEN_COUNT_MAX) {
            reply_error(reply, "ERR client-id should be greater than 0");
            return false;
        }
        chosen->ids[chosen->id_count++] = (uint64_t)number;
        return true;
    }
    if (resp__is(option, "MAXAGE")) {
        if (!is_number || number < 1) {
            reply_error(reply, "ERR maxage is not an integer or out of range");
            return false;
        }
        chosen->age_s_min = (uint64_t)number;
        return true;
    }
    if (resp__is(option, "TYPE")) {
        return read_type(chosen, value, reply);
    }
    if (resp__is(option, "USER")) {
        if (!bytes_equal(value, BYTES("default"))) {
            reply_error(reply, "ERR No such user '%.*s'",
                        value.size_bytes < 128 ? (int)value.size_bytes : 128,
                        (const char *)value.data);
            return false;
        }
        return true;
    }
    if (resp__is(option, "SKIPME") && (resp__is(value, "yes") || resp__is(value, "no"))) {
        chosen->is_skipping_self = resp__is(value, "yes");
        return true;
    }
    if (resp__is(option, "ADDR") || resp__is(option, "LADDR")) {
        if (!read_address(resp__is(option, "ADDR") ? chosen->peer : chosen->local, value)) {
            chosen->is_nobody = true;
        }
        return true;
    }
    resp__reply_syntax(reply);
    return false;
}

static bool refuse_syntax(const struct reply *reply)
{
    resp__reply_syntax(reply);
    return false;
}

CLIENT_HANDLER(client_kill)
{
    if (connection->server->is_choosing) {
        return HANDLED_LATER;
    }
    struct chosen *chosen = memory_allocate_zeroed(1, sizeof *chosen);
    chosen->is_kill = true;
    chosen->is_skipping_self = count > 3;
    bool is_good = true;
    if (count == 3) {
        chosen->is_old_form = true;
        chosen->is_nobody = !read_address(chosen->peer, arguments[2]);
    }
    for (uint32_t i = 2; i < count && is_good && !chosen->is_old_form; i += 2) {
        is_good = i + 1 < count ? read_kill_option(chosen, arguments[i], arguments[i + 1], reply)
                                : refuse_syntax(reply);
    }
    if (!is_good) {
        memory_free(chosen);
        return HANDLED_DONE;
    }
    send_off(connection, chosen);
    return HANDLED_DONE;
}

/* ---- Pausing --------------------------------------------------------------------------------- */

struct pause_errand {
    struct errand errand; /* First. */
    uint64_t until_ms;
    bool is_for_all;
};

static void pause_visit(struct errand *errand, struct resp_server *server)
{
    const struct pause_errand *pause = LIST_ITEM(errand, struct pause_errand, errand);
    resp__server_pause(server, pause->until_ms, pause->is_for_all);
}

static void pause_back(struct errand *errand)
{
    memory_free(LIST_ITEM(errand, struct pause_errand, errand));
}

static void send_pause(struct connection *connection, uint64_t until_ms, bool is_for_all)
{
    struct pause_errand *pause = memory_allocate_zeroed(1, sizeof *pause);
    pause->errand = (struct errand){.visit = pause_visit, .back = pause_back};
    pause->until_ms = until_ms;
    pause->is_for_all = is_for_all;
    resp__errand_send(&pause->errand, connection->server);
}

CLIENT_HANDLER(client_pause)
{
    int64_t timeout_ms = 0;
    bool is_for_all = true;
    if (count > 4) {
        resp__reply_subcommand_form(reply, "client", arguments[1]);
        return HANDLED_DONE;
    }
    if (count == 4 && resp__is(arguments[3], "WRITE")) {
        is_for_all = false;
    } else if (count == 4 && !resp__is(arguments[3], "ALL")) {
        reply_error(reply, "ERR CLIENT PAUSE mode must be WRITE or ALL");
        return HANDLED_DONE;
    }
    if (!number_parse_integer(arguments[2], &timeout_ms)) {
        reply_error(reply, "ERR timeout is not an integer or out of range");
        return HANDLED_DONE;
    }
    if (timeout_ms < 0) {
        reply_error(reply, "ERR timeout is negative");
        return HANDLED_DONE;
    }
    uint64_t now_ms = os_loop_now_ms(connection->server->loop);
    send_pause(connection, now_ms + (uint64_t)timeout_ms, is_for_all);
    reply_ok(reply);
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_unpause)
{
    send_pause(connection, 0, true);
    reply_ok(reply);
    return HANDLED_DONE;
}

/* ---- About this connection ------------------------------------------------------------------- */

CLIENT_HANDLER(client_id)
{
    reply_integer(reply, (int64_t)connection->id);
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_info)
{
    struct buffer text = {0};
    describe(connection, &text);
    reply_verbatim(reply, "txt", buffer_bytes(&text));
    buffer_deinit(&text);
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_getname)
{
    if (connection->extra == NULL || connection->extra->name.size_bytes == 0) {
        reply_null(reply);
    } else {
        reply_bulk(reply, buffer_bytes(&connection->extra->name));
    }
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_setname)
{
    if (!resp__name_is_clean(arguments[2])) {
        reply_error(reply, "ERR Client names cannot contain spaces, newlines or special "
                           "characters.");
        return HANDLED_DONE;
    }
    struct connection_extra *extra = resp__connection_extra(connection);
    buffer_clear(&extra->name);
    buffer_append(&extra->name, arguments[2]);
    reply_ok(reply);
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_setinfo)
{
    struct connection_extra *extra = resp__connection_extra(connection);
    bool is_name = resp__is(arguments[2], "LIB-NAME");
    if (!is_name && !resp__is(arguments[2], "LIB-VER")) {
        reply_error(reply, "ERR Unrecognized option '%.*s'",
                    arguments[2].size_bytes < 128 ? (int)arguments[2].size_bytes : 128,
                    (const char *)arguments[2].data);
        return HANDLED_DONE;
    }
    if (!resp__name_is_clean(arguments[3])) {
        reply_error(reply, "ERR %s cannot contain spaces, newlines or special characters.",
                    is_name ? "lib-name" : "lib-ver");
        return HANDLED_DONE;
    }
    struct buffer *target = is_name ? &extra->library_name : &extra->library_version;
    buffer_clear(target);
    buffer_append(target, arguments[3]);
    reply_ok(reply);
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_reply)
{
    if (resp__is(arguments[2], "ON")) {
        connection->reply_mode = REPLY_MODE_ON;
        struct reply target = resp__reply_target(connection);
        size_t before = target.target->size_bytes;
        reply_ok(&target);
        if (target.target != reply->target) {
            resp__reply_written(connection, &target, before);
        }
    } else if (resp__is(arguments[2], "OFF")) {
        connection->reply_mode = REPLY_MODE_OFF;
    } else if (resp__is(arguments[2], "SKIP")) {
        if (connection->reply_mode != REPLY_MODE_OFF) {
            connection->reply_mode = REPLY_MODE_SKIP_NEXT;
        }
    } else {
        resp__reply_syntax(reply);
    }
    return HANDLED_DONE;
}

/* ON or OFF. False: the error is replied. */
static bool read_switch(struct bytes value, bool *is_on, const struct reply *reply)
{
    *is_on = resp__is(value, "ON");
    if (!*is_on && !resp__is(value, "OFF")) {
        resp__reply_syntax(reply);
        return false;
    }
    reply_ok(reply);
    return true;
}

CLIENT_HANDLER(client_no_evict)
{
    bool is_on;
    if (read_switch(arguments[2], &is_on, reply)) {
        connection->is_protected = is_on;
    }
    return HANDLED_DONE;
}

/* Reading changes no state that eviction would look at, so there is nothing to leave untouched. */
CLIENT_HANDLER(client_no_touch)
{
    bool is_on;
    if (read_switch(arguments[2], &is_on, reply)) {
        connection->is_touching = !is_on;
    }
    return HANDLED_DONE;
}

/* No command of this server blocks its client, so there is nobody to wake. */
CLIENT_HANDLER(client_unblock)
{
    int64_t id;
    if (count > 4) {
        resp__reply_subcommand_form(reply, "client", arguments[1]);
    } else if (count == 4 && !resp__is(arguments[3], "TIMEOUT") &&
               !resp__is(arguments[3], "ERROR")) {
        reply_error(reply, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    } else if (!number_parse_integer(arguments[2], &id)) {
        reply_error(reply, "ERR value is not an integer or out of range");
    } else {
        reply_integer(reply, 0);
    }
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_getredir)
{
    reply_integer(reply, -1);
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_tracking)
{
    if (count == 3 && resp__is(arguments[2], "OFF")) {
        reply_ok(reply);
    } else if (!resp__is(arguments[2], "OFF") && !resp__is(arguments[2], "ON")) {
        resp__reply_syntax(reply);
    } else {
        reply_error(reply, "ERR client-side caching is not supported by this server");
    }
    return HANDLED_DONE;
}

/* Tracking is never on. */
CLIENT_HANDLER(client_caching)
{
    reply_error(reply, "ERR CLIENT CACHING can be called only when the client is in tracking mode "
                       "with OPTIN or OPTOUT mode enabled");
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_trackinginfo)
{
    reply_map(reply, 3);
    reply_bulk_text(reply, "flags");
    reply_set(reply, 1);
    reply_bulk_text(reply, "off");
    reply_bulk_text(reply, "redirect");
    reply_integer(reply, -1);
    reply_bulk_text(reply, "prefixes");
    reply_array(reply, 0);
    return HANDLED_DONE;
}

CLIENT_HANDLER(client_help)
{
    static const char *const lines[] = {
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GETNAME",
        "    Return the name of the current connection.",
        "GETREDIR",
        "    Return -1: tracking is not supported.",
        "ID",
        "    Return the ID of the current connection.",
        "INFO",
        "    Return information about the current client connection.",
        "KILL <ip:port>",
        "    Kill connection made from <ip:port>.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Kill connections. Options are: ADDR, LADDR, TYPE, USER, ID, MAXAGE, SKIPME (YES|NO).",
        "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <id> ...]",
        "    Return information about client connections.",
        "NO-EVICT (ON|OFF)",
        "    Protect current client connection from eviction.",
        "NO-TOUCH (ON|OFF)",
        "    Accepted; reads leave no trace here.",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Suspend all, or just write, clients for <timeout> milliseconds.",
        "REPLY (ON|OFF|SKIP)",
        "    Control the replies sent to the current connection.",
        "SETINFO <LIB-NAME|LIB-VER> <value>",
        "    Tell the name or the version of the client library.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "    Return 0: no command blocks.",
        "UNPAUSE",
        "    Stop the current client pause, resuming traffic.",
    };
    resp__reply_help(reply, lines, COUNT_OF(lines));
    return HANDLED_DONE;
}

RESP_HANDLER(client)
{
    static const struct subcommand subcommands[] = {
        {"id", 2, client_id},
        {"setinfo", 4, client_setinfo},
        {"setname", 3, client_setname},
        {"getname", 2, client_getname},
        {"info", 2, client_info},
        {"list", -2, client_list},
        {"kill", -3, client_kill},
        {"reply", 3, client_reply},
        {"no-evict", 3, client_no_evict},
        {"no-touch", 3, client_no_touch},
        {"pause", -3, client_pause},
        {"unpause", 2, client_unpause},
        {"unblock", -3, client_unblock},
        {"getredir", 2, client_getredir},
        {"caching", 3, client_caching},
        {"tracking", -3, client_tracking},
        {"trackinginfo", 2, client_trackinginfo},
        {"help", 2, client_help},
    };
    return resp__run_subcommand(subcommands, COUNT_OF(subcommands), connection, arguments, count,
                                reply);
}
