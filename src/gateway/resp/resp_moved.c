/* SPDX-License-Identifier: Apache-2.0 */
/* Commands whose shard had other slots: it was split (decision 18).
 *
 * Such a command did nothing, and is dispatched anew, by the newest map, as if it had just been read:
 * its keys may be in several shards now. What becomes of it is put in the old place in the order of
 * replies. The order of the connection's commands (I5) is kept so:
 *
 *   - What has moved waits until nothing that came behind it is under way. In its own lane that is not for
 *     long: a range that is over never comes back, so all that names it is refused.
 *   - Then it is dispatched in its order. As always, nothing goes by a newer map while something is under
 *     way by an older one (resp_lane.c). So whatever is of the same key as this and came before it is
 *     answered, or goes before it in the same lane.
 *   - No new command is executed before all of it is on its way.
 *
 * A command is copied when it moves; the copy counts as what is under way. A node learns of the newer map
 * before it is refused by an older one. Should it not be so, it asks again after a while. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "gateway/resp/resp_internal.h"

enum { ASK_AGAIN_MS = 10 };

/* ---- What moves ------------------------------------------------------------------------------ */

/* What stands between the name of a command and what the shard was given of it. */
static struct bytes subcommand_of(const struct slot *slot)
{
    if (slot->entry->handler != resp__cluster) {
        return (struct bytes){0};
    }
    bool is_count = slot->request.command.opcode == kv_slot_count_opcode();
    return is_count ? BYTES("countkeysinslot") : BYTES("getkeysinslot");
}

static void keep_command(struct slot *slot)
{
    const struct shard_command *command = &slot->request.command;
    struct bytes subcommand = subcommand_of(slot);
    uint32_t head_count = subcommand.size_bytes > 0 ? 2 : 1;
    uint32_t count = head_count + command->argument_count;
    struct bytes *views = memory_allocate(count * sizeof views[0]);
    views[0] = bytes_of_text(slot->entry->command->name);
    views[head_count - 1] = head_count > 1 ? subcommand : views[0];
    if (command->argument_count > 0) {
        memcpy(views + head_count, command->arguments, command->argument_count * sizeof views[0]);
    }
    slot->arguments = resp__arguments_copy(views, count);
    slot->argument_count = count;
    resp__slot_charge(slot, resp__arguments_size_bytes(views, count));
    memory_free(views);
}

void resp__moved(struct slot *slot)
{
    struct connection *connection = slot->connection;
    struct resp_server *server = connection->server;
    struct connection_extra *extra = resp__connection_extra(connection);
    PROBE("resp.moved");
    if (slot->is_counted) {
        server->pending_read_count--;
        slot->is_counted = false;
    }
    if (slot->is_read) {
        slot->lane->read_count--;
        slot->is_read = false;
    }
    if (slot->transaction == NULL) {
        keep_command(slot);
    }
    resp__note_refused(connection);
    slot->is_moved = true;
    connection->under_way_count--;
    resp__lane_leave(slot->lane);
    slot->lane = NULL;
    connection->has_moved = true;
    connection->is_blocked = false; /* A WATCH, which is executed again. */
    if (extra->moved_count++ == 0) {
        list_push_back(&server->moved, &extra->moved_link);
    }
    os_loop_tick_again(server->loop);
}

void resp__moved_over(struct slot *slot)
{
    struct connection *connection = slot->connection;
    struct connection_extra *extra = connection->extra;
    ASSERT(slot->is_moved && extra->moved_count > 0);
    slot->is_moved = false;
    if (--extra->moved_count == 0) {
        list_remove(&extra->moved_link);
        connection->has_moved = false;
    }
}

void resp__note_refused(struct connection *connection)
{
    struct connection_extra *extra = resp__connection_extra(connection);
    extra->refused_version = connection->map_version;
    extra->refused_at_ms = os_loop_now_ms(connection->server->loop);
}

bool resp__is_refused(const struct connection *connection)
{
    const struct connection_extra *extra = connection->extra;
    return extra->refused_version == connection->map_version &&
           os_loop_now_ms(connection->server->loop) < extra->refused_at_ms + ASK_AGAIN_MS;
}

/* ---- Anew ------------------------------------------------------------------------------------ */

/* The first one; NULL when something behind it is still under way. */
static struct slot *first_moved(const struct connection *connection)
{
    struct slot *first = NULL;
    LIST_EACH(member, next, &connection->slots)
    {
        struct slot *slot = LIST_ITEM(member, struct slot, link);
        if (slot->is_moved) {
            first = first == NULL ? slot : first;
        } else if (!slot->is_done && first != NULL) {
            return NULL;
        }
    }
    return first;
}

/* As the connection was when the command was read. */
static enum handled execute(struct connection *connection, struct slot *slot,
                            const struct reply *reply)
{
    uint8_t protocol = connection->protocol;
    uint8_t reply_mode = connection->reply_mode;
    bool is_readonly = connection->is_readonly;
    connection->protocol = slot->request.protocol;
    connection->reply_mode = slot->is_silent ? REPLY_MODE_OFF : REPLY_MODE_ON;
    connection->is_readonly = slot->request.may_be_stale;
    enum handled handled =
        slot->transaction != NULL
            ? resp__exec_again(connection, &slot->transaction, reply)
            : resp__run(connection, slot->entry, slot->arguments, slot->argument_count, reply);
    connection->protocol = protocol;
    connection->reply_mode = reply_mode;
    connection->is_readonly = is_readonly;
    return handled;
}

static enum handled dispatch(struct slot *slot)
{
    struct connection *connection = slot->connection;
    struct list *last = connection->slots.previous;
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = slot->request.protocol};
    enum handled handled = execute(connection, slot, &reply);
    if (handled == HANDLED_DONE && connection->slots.previous != last) {
        resp__slot_replace(slot, LIST_ITEM(connection->slots.previous, struct slot, link));
    } else if (handled == HANDLED_DONE && !connection->is_hung_up) {
        slot->complete = NULL;
        resp__slot_close(slot, 0, buffer_bytes(&answer));
    }
    buffer_deinit(&answer);
    return handled;
}

/* Nobody waits for them any more. The last one may end the connection. */
static void drop_all(struct connection *connection)
{
    for (uint32_t count = connection->extra->moved_count; count > 0; count--) {
        struct list *member = connection->slots.next;
        while (!LIST_ITEM(member, struct slot, link)->is_moved) {
            member = member->next;
        }
        struct slot *slot = LIST_ITEM(member, struct slot, link);
        slot->complete = NULL;
        resp__slot_close(slot, ERROR_MOVED, (struct bytes){0});
    }
}

/* Returns whether it must be tried again. */
static bool go_on(struct connection *connection)
{
    while (!connection->is_hung_up && connection->has_moved && !connection->is_blocked) {
        struct slot *slot = first_moved(connection);
        enum handled handled = slot != NULL ? dispatch(slot) : HANDLED_AFTER;
        if (handled == HANDLED_LATER) {
            return true;
        }
        if (handled == HANDLED_AFTER) {
            break; /* The next answer brings it here. */
        }
    }
    if (connection->is_hung_up && connection->has_moved) {
        PROBE("resp.moved_dropped");
        drop_all(connection);
        return false;
    }
    resp__connection_charge(connection);
    if (!connection->has_moved) {
        resp__connection_make_ready(connection);
    }
    return false;
}

bool resp__moved_retry(struct resp_server *server)
{
    bool must_try_again = false;
    LIST_EACH(member, next, &server->moved)
    {
        struct connection_extra *extra = LIST_ITEM(member, struct connection_extra, moved_link);
        must_try_again |= go_on(extra->connection);
    }
    return must_try_again;
}
