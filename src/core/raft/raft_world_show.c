/* SPDX-License-Identifier: Apache-2.0 */
/* What a world says of itself, for people who know the protocol. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/raft/raft_world.h"

void raft__world_violate(struct raft__world *world, const char *format, ...)
{
    if (world->violation[0] != '\0') {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(world->violation, sizeof world->violation, format, arguments);
    va_end(arguments);
}

void raft__world_show(struct raft__world *world, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    buffer_append_format(&world->shown, "%s\n", line);
}

static void show_nodes(struct buffer *target, const char *name, const raft_node *nodes,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        buffer_append_format(target, "%s%" PRIu32, i == 0 ? name : ",", nodes[i]);
    }
}

void raft__world_show_configuration(struct buffer *target,
                                    const struct raft_configuration *configuration)
{
    show_nodes(target, " voters=", configuration->voters, configuration->voter_count);
    show_nodes(target, " outgoing=", configuration->outgoing, configuration->outgoing_count);
    show_nodes(target, " learners=", configuration->learners, configuration->learner_count);
}

void raft__world_show_entry_configuration(struct raft__world *world, raft_node id, raft_index index,
                                          const struct raft_configuration *configuration)
{
    if (world->does_show_changes) {
        buffer_append_format(&world->shown, "%" PRIu32 " has configuration %" PRIu64 ":", id,
                             index);
        raft__world_show_configuration(&world->shown, configuration);
        buffer_append_byte(&world->shown, '\n');
    }
}

const char *raft__world_kind_name(enum raft_message_kind kind)
{
    switch (kind) {
    case RAFT_MESSAGE_PREVOTE_REQUEST:
        return "prevote_request";
    case RAFT_MESSAGE_PREVOTE_REPLY:
        return "prevote_reply";
    case RAFT_MESSAGE_VOTE_REQUEST:
        return "vote_request";
    case RAFT_MESSAGE_VOTE_REPLY:
        return "vote_reply";
    case RAFT_MESSAGE_APPEND_REQUEST:
        return "append";
    case RAFT_MESSAGE_APPEND_REPLY:
        return "append_reply";
    case RAFT_MESSAGE_HEARTBEAT_REQUEST:
        return "heartbeat";
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        return "heartbeat_reply";
    case RAFT_MESSAGE_TIMEOUT_NOW:
        return "timeout_now";
    }
    return "?";
}

static void show_details(struct buffer *target, const struct raft_message *message)
{
    switch (message->kind) {
    case RAFT_MESSAGE_PREVOTE_REQUEST:
    case RAFT_MESSAGE_VOTE_REQUEST:
        buffer_append_format(target, " log=%" PRIu64 "@%" PRIu64 "%s", message->index,
                             message->index_term, message->is_transfer ? " transfer" : "");
        break;
    case RAFT_MESSAGE_PREVOTE_REPLY:
    case RAFT_MESSAGE_VOTE_REPLY:
        buffer_append_format(target, " %s", message->is_rejected ? "refused" : "granted");
        break;
    case RAFT_MESSAGE_APPEND_REQUEST:
        buffer_append_format(
            target, " after=%" PRIu64 "@%" PRIu64 " entries=%" PRIu32 " commit=%" PRIu64,
            message->index, message->index_term, message->entry_count, message->commit_index);
        break;
    case RAFT_MESSAGE_APPEND_REPLY:
        if (message->is_rejected) {
            buffer_append_format(target, " refused index=%" PRIu64 " hint=%" PRIu64 "@%" PRIu64,
                                 message->index, message->last_index, message->last_term);
        } else {
            buffer_append_format(target, " index=%" PRIu64, message->index);
        }
        break;
    case RAFT_MESSAGE_HEARTBEAT_REQUEST:
        buffer_append_format(target, " match=%" PRIu64 " commit=%" PRIu64 " round=%" PRIu64 "%s",
                             message->index, message->commit_index, message->round,
                             message->is_quiet ? " quiet" : "");
        break;
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        buffer_append_format(target, " round=%" PRIu64 "%s", message->round,
                             message->is_quiet ? " quiet" : "");
        if (message->is_rejected) {
            buffer_append_format(target, " lost, has %" PRIu64, message->index);
        }
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        break;
    }
    /* The number itself is random. */
    if (message->mark != 0 && message->kind == RAFT_MESSAGE_HEARTBEAT_REQUEST) {
        buffer_append_format(target, " whole if it has entry %" PRIu64, message->last_index);
    } else if (message->mark != 0) {
        buffer_append(target, BYTES(" impaired"));
    }
}

void raft__world_show_message(struct raft__world *world, const struct raft_message *message,
                              uint64_t after_sequence)
{
    if (!world->does_show_messages) {
        return;
    }
    buffer_append_format(&world->shown, "%" PRIu32 "->%" PRIu32 " %s term=%" PRIu64, message->from,
                         message->to, raft__world_kind_name(message->kind), message->term);
    show_details(&world->shown, message);
    if (after_sequence > 0) {
        buffer_append_format(&world->shown, " (once %" PRIu64 " is durable)", after_sequence);
    }
    buffer_append_byte(&world->shown, '\n');
}

void raft__world_show_persist(struct raft__world *world, raft_node id,
                              const struct raft_persist *persist)
{
    if (!world->does_show_messages) {
        return;
    }
    switch (persist->kind) {
    case RAFT_PERSIST_HARD_STATE:
        raft__world_show(world, "%" PRIu32 " persists %" PRIu64 ": term=%" PRIu64 " vote=%" PRIu32,
                         id, persist->sequence, persist->hard_state.term, persist->hard_state.vote);
        break;
    case RAFT_PERSIST_ENTRIES:
        raft__world_show(world, "%" PRIu32 " persists %" PRIu64 ": entries %" PRIu64 "..%" PRIu64,
                         id, persist->sequence, persist->index,
                         persist->index + persist->count - 1);
        break;
    case RAFT_PERSIST_TRUNCATE:
        raft__world_show(world, "%" PRIu32 " persists %" PRIu64 ": nothing from %" PRIu64 " on", id,
                         persist->sequence, persist->index);
        break;
    }
}
