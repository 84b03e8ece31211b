/* SPDX-License-Identifier: Apache-2.0 */
#include "core/raft/raft_world.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"

/* ---- Logs ------------------------------------------------------------------------------------ */

static void log_init(struct raft__world_log *log, raft_index first_index, raft_term previous_term)
{
    memory_free(log->entries);
    *log = (struct raft__world_log){
        .first_index = first_index, .last_index = first_index - 1, .previous_term = previous_term};
}

const struct raft__world_entry *raft__world_entry_at(const struct raft__world_log *log,
                                                     raft_index index)
{
    bool is_there = index >= log->first_index && index <= log->last_index;
    return is_there ? &log->entries[index - log->first_index] : NULL;
}

static raft_term log_term(const struct raft__world_log *log, raft_index index)
{
    const struct raft__world_entry *entry = raft__world_entry_at(log, index);
    return entry != NULL ? entry->term : index + 1 == log->first_index ? log->previous_term : 0;
}

static void log_append(struct raft__world_log *log, const struct raft__world_entry *entry)
{
    uint64_t count = log->last_index + 1 - log->first_index;
    if (count == log->capacity) {
        log->capacity = log->capacity * 2 + 16;
        log->entries = memory_resize(log->entries, log->capacity * sizeof *log->entries);
    }
    log->entries[count] = *entry;
    log->last_index++;
}

static void log_truncate(struct raft__world_log *log, raft_index index)
{
    if (index <= log->last_index) {
        ASSERT(index >= log->first_index);
        log->last_index = index - 1;
    }
}

static void log_compact(struct raft__world_log *log, raft_index index)
{
    if (index < log->first_index) {
        return;
    }
    ASSERT(index <= log->last_index);
    log->previous_term = log_term(log, index);
    uint64_t gone = index + 1 - log->first_index;
    memmove(log->entries, log->entries + gone, (log->last_index - index) * sizeof *log->entries);
    log->first_index = index + 1;
}

static void log_copy(struct raft__world_log *target, const struct raft__world_log *source)
{
    log_init(target, source->first_index, source->previous_term);
    for (raft_index i = source->first_index; i <= source->last_index; i++) {
        log_append(target, raft__world_entry_at(source, i));
    }
}

static struct raft__world_entry *copy_entries(const struct raft__world_log *log, raft_index index,
                                              uint32_t count)
{
    if (count == 0) {
        return NULL;
    }
    ASSERT(index >= log->first_index && index + count - 1 <= log->last_index);
    struct raft__world_entry *entries = memory_allocate_zeroed(count, sizeof *entries);
    memcpy(entries, &log->entries[index - log->first_index], count * sizeof *entries);
    return entries;
}

/* ---- Packets --------------------------------------------------------------------------------- */

static void packets_make_room(struct raft__world_packets *packets)
{
    if (packets->gap > packets->count) {
        memcpy(packets->room, packets->items, packets->count * sizeof *packets->items);
        packets->gap = 0;
    } else {
        packets->capacity = packets->capacity * 2 + 16;
        packets->room = memory_resize(packets->room, packets->capacity * sizeof *packets->items);
    }
    packets->items = packets->room + packets->gap;
}

static void packets_add(struct raft__world_packets *packets,
                        const struct raft__world_packet *packet)
{
    if (packets->gap + packets->count == packets->capacity) {
        packets_make_room(packets);
    }
    packets->items[packets->count++] = *packet;
}

static struct raft__world_packet packets_take(struct raft__world_packets *packets,
                                              uint32_t position)
{
    ASSERT(position < packets->count);
    struct raft__world_packet packet = packets->items[position];
    packets->count--;
    if (position < packets->count / 2) {
        memmove(packets->items + 1, packets->items, position * sizeof *packets->items);
        packets->items++;
        packets->gap++;
    } else {
        memmove(&packets->items[position], &packets->items[position + 1],
                (packets->count - position) * sizeof *packets->items);
    }
    return packet;
}

static void packets_clear(struct raft__world_packets *packets)
{
    for (uint32_t i = 0; i < packets->count; i++) {
        memory_free(packets->items[i].entries);
    }
    packets->count = 0;
}

/* I2: a vote leaves when it cannot be forgotten any more. */
static void check_leaving(struct raft__world *world, const struct raft__world_node *node,
                          const struct raft_message *message)
{
    const struct raft_hard_state *durable = &node->durable_hard_state;
    bool is_vote = message->kind == RAFT_MESSAGE_VOTE_REPLY && !message->is_rejected;
    if (is_vote && durable->term <= message->term &&
        (durable->term < message->term || durable->vote != message->to)) {
        raft__world_violate(world, "I2: the vote of %" PRIu32 " is not durable", node->id);
    }
}

static void post(struct raft__world *world, struct raft__world_node *node,
                 struct raft__world_packet *packet)
{
    packet->number = ++world->packet_number;
    if (packet->after_sequence > node->durable_sequence) {
        packets_add(&node->held, packet);
        return;
    }
    check_leaving(world, node, &packet->message);
    packets_add(&world->network, packet);
}

/* I7 and I8. */
static void check_sent(struct raft__world *world, const struct raft__world_node *node,
                       const struct raft_message *message, const struct raft_input *input)
{
    bool is_vote =
        (message->kind == RAFT_MESSAGE_VOTE_REPLY || message->kind == RAFT_MESSAGE_PREVOTE_REPLY) &&
        !message->is_rejected;
    bool is_request =
        message->kind == RAFT_MESSAGE_VOTE_REQUEST || message->kind == RAFT_MESSAGE_PREVOTE_REQUEST;
    if (node->output.is_impaired && (is_vote || is_request)) {
        raft__world_violate(world, "I8: %" PRIu32 " is impaired and votes", node->id);
    }
    /* The only voter owes nothing after a restart: no other leader has a lease (raft_lease.c). */
    if (is_vote && !input->message->is_transfer && node->heard_at_ms != 0 &&
        node->now_ms < node->heard_at_ms + node->raft->election_timeout_ms &&
        !raft__is_only_voter(node->raft)) {
        raft__world_violate(world, "I7: %" PRIu32 " votes, and has heard of a leader", node->id);
    }
}

static void send(struct raft__world *world, struct raft__world_node *node,
                 const struct raft_send *send, const struct raft_input *input)
{
    check_sent(world, node, &send->message, input);
    bool is_late = send->after_sequence > node->durable_sequence;
    raft__world_show_message(world, &send->message, is_late ? send->after_sequence : 0);
    struct raft_message message = send->message;
    uint32_t left = message.entry_count;
    do {
        bool is_cut = world->append_cut_count > 0 && left > world->append_cut_count;
        message.entry_count = is_cut ? world->append_cut_count : left;
        struct raft__world_packet packet = {
            .after_sequence = send->after_sequence,
            .message = message,
            .entries = copy_entries(&node->log, message.index + 1, message.entry_count),
        };
        post(world, node, &packet);
        left -= message.entry_count;
        message.index += message.entry_count;
        message.index_term = left > 0 ? raft__world_entry_at(&node->log, message.index)->term : 0;
    } while (left > 0);
}

static void release_held(struct raft__world *world, struct raft__world_node *node)
{
    for (uint32_t i = 0; i < node->held.count;) {
        if (node->held.items[i].after_sequence <= node->durable_sequence) {
            struct raft__world_packet packet = packets_take(&node->held, i);
            check_leaving(world, node, &packet.message);
            packets_add(&world->network, &packet);
        } else {
            i++;
        }
    }
}

/* ---- Checks ---------------------------------------------------------------------------------- */

/* State machine safety (figure 3.2), and I6. */
static void check_applied(struct raft__world *world, struct raft__world_node *node,
                          raft_index index, const struct raft__world_entry *entry)
{
    const struct raft__world_entry *durable = raft__world_entry_at(&node->durable_log, index);
    if (durable == NULL || durable->term != entry->term || durable->value != entry->value) {
        raft__world_violate(world,
                            "I6: %" PRIu32 " applies entry %" PRIu64 ", which is not durable there",
                            node->id, index);
    }
    if (index == world->committed.last_index + 1) {
        struct raft__world_entry committed = *entry;
        committed.commit_term = node->output.term;
        log_append(&world->committed, &committed);
        return;
    }
    const struct raft__world_entry *other = raft__world_entry_at(&world->committed, index);
    if (other == NULL || other->term != entry->term || other->value != entry->value) {
        raft__world_violate(world, "%" PRIu32 " applies another entry %" PRIu64, node->id, index);
    }
}

static void apply(struct raft__world *world, struct raft__world_node *node)
{
    struct raft__world_state *state = &node->applied;
    while (state->index < node->output.commit_index) {
        const struct raft__world_entry *entry = raft__world_entry_at(&node->log, state->index + 1);
        if (entry == NULL) {
            raft__world_violate(world,
                                "%" PRIu32 " commits entry %" PRIu64 ", which it does not have",
                                node->id, state->index + 1);
            return;
        }
        check_applied(world, node, state->index + 1, entry);
        state->index++;
        state->term = entry->term;
        state->digest = state->digest * 31 + entry->value;
        if (entry->kind == RAFT_ENTRY_CONFIGURATION) {
            state->configuration = entry->configuration;
            state->configuration_index = state->index;
        }
    }
}

/* Election safety; leader completeness: whoever begins to lead has all that was committed in
 * earlier terms. */
static void check_leader(struct raft__world *world, const struct raft__world_node *node)
{
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        const struct raft__world_node *other = &world->nodes[i];
        if (other->raft != NULL && i != node->id && other->output.role == RAFT_ROLE_LEADER &&
            other->output.term == node->output.term) {
            raft__world_violate(world, "%" PRIu32 " and %" PRIu32 " lead in term %" PRIu64,
                                node->id, i, node->output.term);
        }
    }
    const struct raft__world_log *committed = &world->committed;
    for (raft_index i = node->log.first_index; i <= committed->last_index; i++) {
        const struct raft__world_entry *entry = raft__world_entry_at(committed, i);
        const struct raft__world_entry *own = raft__world_entry_at(&node->log, i);
        if (entry->commit_term < node->output.term && (own == NULL || own->term != entry->term)) {
            raft__world_violate(world,
                                "%" PRIu32 " leads without entry %" PRIu64 ", which is committed",
                                node->id, i);
        }
    }
}

/* I3: what a leader finds committed is of its own term, and so is all before it. */
static void check_commit(struct raft__world *world, const struct raft__world_node *node,
                         raft_index commit_before)
{
    const struct raft *raft = node->raft;
    if (raft->role == RAFT_ROLE_LEADER && raft->commit_index > commit_before &&
        log_term(&node->log, raft->commit_index) != raft->hard_state.term) {
        raft__world_violate(world, "I3: %" PRIu32 " commits entry %" PRIu64 " of an older term",
                            node->id, raft->commit_index);
    }
}

static void note_heard(struct raft__world_node *node, const struct raft_input *input,
                       raft_term term)
{
    if (input->kind == RAFT_INPUT_RECEIVE && input->message->term == term &&
        (input->message->kind == RAFT_MESSAGE_APPEND_REQUEST ||
         input->message->kind == RAFT_MESSAGE_HEARTBEAT_REQUEST)) {
        node->heard_at_ms = node->now_ms;
    }
}

static void note_changes(struct raft__world *world, struct raft__world_node *node,
                         const struct raft_output *before)
{
    static const char *const roles[] = {"follower", "precandidate", "candidate", "leader"};
    const struct raft_output *now = &node->output;
    if (now->role == RAFT_ROLE_LEADER && before->role != RAFT_ROLE_LEADER) {
        check_leader(world, node);
    }
    if (now->term < before->term || now->commit_index < before->commit_index) {
        raft__world_violate(world, "I1: %" PRIu32 " goes back", node->id);
    }
    if (!world->does_show_changes) {
        return;
    }
    if (now->role != before->role || now->term != before->term ||
        (now->role == RAFT_ROLE_FOLLOWER && now->leader != before->leader)) {
        char leader[32] = "";
        if (now->role == RAFT_ROLE_FOLLOWER && now->leader != 0) {
            (void)snprintf(leader, sizeof leader, " of %" PRIu32, now->leader);
        }
        raft__world_show(world, "%" PRIu32 " is %s%s in term %" PRIu64, node->id, roles[now->role],
                         leader, now->term);
    }
    if (now->commit_index != before->commit_index) {
        raft__world_show(world, "%" PRIu32 " applies up to %" PRIu64, node->id, now->commit_index);
    }
    if (now->is_quiet != before->is_quiet) {
        raft__world_show(world, "%" PRIu32 " is %s", node->id, now->is_quiet ? "quiet" : "awake");
    }
    if (now->is_impaired != before->is_impaired) {
        raft__world_show(world, "%" PRIu32 " is mended", node->id);
    }
    if (now->is_transferring != before->is_transferring) {
        raft__world_show(world, "%" PRIu32 " %s", node->id,
                         now->is_transferring ? "hands over" : "does not hand over any more");
    }
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static void take_entries(struct raft__world *world, struct raft__world_node *node,
                         const struct raft_persist *persist, const struct raft_input *input,
                         const struct raft__world_entry *entries)
{
    for (uint32_t i = 0; i < persist->count; i++) {
        struct raft__world_entry entry = {0};
        if (input->kind == RAFT_INPUT_RECEIVE &&
            input->message->kind == RAFT_MESSAGE_APPEND_REQUEST) {
            entry = entries[persist->message_offset + i];
        } else {
            entry.term = persist->term;
            entry.kind = persist->entry_kind;
            if (entry.kind == RAFT_ENTRY_CONFIGURATION) {
                entry.configuration = persist->configuration;
            }
            entry.value = ++world->value;
        }
        ASSERT(node->log.last_index + 1 == persist->index + i);
        log_append(&node->log, &entry);
        if (entry.kind == RAFT_ENTRY_CONFIGURATION) {
            raft__world_show_entry_configuration(world, node->id, node->log.last_index,
                                                 &entry.configuration);
        }
    }
}

static void take_persist(struct raft__world *world, struct raft__world_node *node,
                         const struct raft_persist *persist, const struct raft_input *input,
                         const struct raft__world_entry *entries)
{
    struct raft__world_write write = {.persist = *persist};
    raft__world_show_persist(world, node->id, persist);
    if (persist->kind == RAFT_PERSIST_TRUNCATE) {
        log_truncate(&node->log, persist->index);
    } else if (persist->kind == RAFT_PERSIST_ENTRIES) {
        take_entries(world, node, persist, input, entries);
        write.entries = copy_entries(&node->log, persist->index, persist->count);
    }
    if (node->write_count == node->write_capacity) {
        node->write_capacity = node->write_capacity * 2 + 16;
        node->writes = memory_resize(node->writes, node->write_capacity * sizeof *node->writes);
    }
    node->writes[node->write_count++] = write;
}

static int step(struct raft__world *world, raft_node id, struct raft_input input,
                const struct raft__world_entry *entries)
{
    struct raft__world_node *node = &world->nodes[id];
    ASSERT(node->raft != NULL);
    struct raft_output output;
    input.now_ms = node->now_ms;
    raft_index commit_before = node->raft->commit_index;
    int status = raft_step(node->raft, &input, &output);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < output.persist_count; i++) {
        take_persist(world, node, &output.persists[i], &input, entries);
    }
    for (uint32_t i = 0; i < output.send_count; i++) {
        send(world, node, &output.sends[i], &input);
    }
    for (uint32_t i = 0; i < output.snapshot_count; i++) {
        if (world->does_show_changes) {
            raft__world_show(world, "%" PRIu32 " wants to send a snapshot to %" PRIu32, id,
                             output.snapshots[i]);
        }
        node->wanted_snapshots[node->wanted_snapshot_count++ % RAFT_PEER_COUNT_MAX] =
            output.snapshots[i];
    }
    note_heard(node, &input, output.term);
    if (input.kind != RAFT_INPUT_SNAPSHOT_INSTALLED) {
        check_commit(world, node, commit_before);
    }
    struct raft_output before = node->output;
    node->output = output;
    note_changes(world, node, &before);
    apply(world, node);
    if (raft_last_index(node->raft) != node->log.last_index || !raft__is_consistent(node->raft)) {
        raft__world_violate(world, "%" PRIu32 " is not consistent", id);
    }
    return output.is_whole && !world->does_prove_late
               ? step(world, id, (struct raft_input){.kind = RAFT_INPUT_WHOLE}, NULL)
               : 0;
}

int raft__world_step(struct raft__world *world, raft_node id, struct raft_input input)
{
    return step(world, id, input, NULL);
}

void raft__world_deliver(struct raft__world *world, uint32_t position, bool is_copy)
{
    struct raft__world_packet packet;
    if (is_copy) {
        packet = world->network.items[position];
        uint32_t count = packet.message.entry_count;
        struct raft__world_entry *entries = packet.entries;
        packet.entries = count > 0 ? memory_allocate_zeroed(count, sizeof *entries) : NULL;
        if (count > 0) {
            memcpy(packet.entries, entries, count * sizeof *entries);
        }
    } else {
        packet = packets_take(&world->network, position);
    }
    raft_node to = packet.message.to;
    if (to <= RAFT__WORLD_NODE_COUNT_MAX && world->nodes[to].raft != NULL) {
        struct raft_entry heads[RAFT_APPEND_ENTRY_COUNT_MAX];
        for (uint32_t i = 0; i < packet.message.entry_count; i++) {
            heads[i] = (struct raft_entry){.term = packet.entries[i].term,
                                           .kind = packet.entries[i].kind,
                                           .configuration = &packet.entries[i].configuration};
        }
        struct raft_input input = {
            .kind = RAFT_INPUT_RECEIVE, .message = &packet.message, .entries = heads};
        raft_term term = world->nodes[to].output.term;
        int status = step(world, to, input, packet.entries);
        ASSERT(status == 0);
        if (packet.message.kind == RAFT_MESSAGE_PREVOTE_REQUEST &&
            world->nodes[to].output.term != term) {
            raft__world_violate(world, "a pre-vote raises the term of %" PRIu32, to);
        }
    }
    memory_free(packet.entries);
}

void raft__world_drop(struct raft__world *world, uint32_t position)
{
    memory_free(packets_take(&world->network, position).entries);
}

/* ---- Disks ----------------------------------------------------------------------------------- */

static void make_durable(struct raft__world_node *node, struct raft__world_write *write)
{
    struct raft__world_log *log = &node->durable_log;
    switch (write->persist.kind) {
    case RAFT_PERSIST_HARD_STATE:
        node->durable_hard_state = write->persist.hard_state;
        break;
    case RAFT_PERSIST_TRUNCATE:
        log_copy(&node->former_log, log);
        log_truncate(log, write->persist.index);
        break;
    case RAFT_PERSIST_ENTRIES:
        for (uint32_t i = 0; i < write->persist.count; i++) {
            if (write->persist.index + i >= log->first_index) { /* A snapshot may have come. */
                ASSERT(write->persist.index + i == log->last_index + 1);
                log_append(log, &write->entries[i]);
            }
        }
        break;
    }
    memory_free(write->entries);
}

static void complete_writes(struct raft__world_node *node, uint32_t count)
{
    ASSERT(count <= node->write_count);
    for (uint32_t i = 0; i < count; i++) {
        node->durable_sequence = node->writes[i].persist.sequence;
        make_durable(node, &node->writes[i]);
    }
    node->write_count -= count;
    if (node->write_count > 0) {
        memmove(node->writes, node->writes + count, node->write_count * sizeof *node->writes);
    }
}

void raft__world_persist(struct raft__world *world, raft_node id, uint32_t count)
{
    struct raft__world_node *node = &world->nodes[id];
    if (count == 0) {
        return;
    }
    complete_writes(node, count);
    release_held(world, node);
    int status =
        raft__world_step(world, id,
                         (struct raft_input){.kind = RAFT_INPUT_PERSISTED,
                                             .persisted_sequence = node->durable_sequence});
    ASSERT(status == 0);
}

void raft__world_store(struct raft__world *world, raft_node id)
{
    struct raft__world_node *node = &world->nodes[id];
    node->stored = node->applied;
    if (node->raft != NULL && node->output.is_whole) {
        int status = raft__world_step(world, id, (struct raft_input){.kind = RAFT_INPUT_WHOLE});
        ASSERT(status == 0);
    }
}

void raft__world_compact(struct raft__world *world, raft_node id, uint64_t keep_count)
{
    struct raft__world_node *node = &world->nodes[id];
    raft__world_store(world, id);
    if (node->stored.index <= keep_count) {
        return;
    }
    raft_index index = node->stored.index - keep_count;
    log_compact(&node->log, index);
    log_compact(&node->durable_log, index);
    struct raft_input input = {.kind = RAFT_INPUT_COMPACTED, .index = index};
    int status = raft__world_step(world, id, input);
    ASSERT(status == 0);
}

void raft__world_damage_cut(struct raft__world *world, raft_node id)
{
    struct raft__world_node *node = &world->nodes[id];
    const struct raft__world_log *former = &node->former_log;
    ASSERT(node->raft == NULL);
    if (former->first_index > 0 && former->first_index <= node->stored.index + 1 &&
        former->last_index >= node->stored.index &&
        log_term(former, node->stored.index) == node->stored.term) {
        log_copy(&node->durable_log, former);
    }
}

void raft__world_damage(struct raft__world *world, raft_node id, raft_index index, raft_term term)
{
    struct raft__world_node *node = &world->nodes[id];
    struct raft__world_log *log = &node->durable_log;
    ASSERT(node->raft == NULL);
    log_truncate(log, number_max(index, node->stored.index + 1));
    if (term < node->durable_hard_state.term) {
        node->durable_hard_state =
            (struct raft_hard_state){.term = number_max(term, log_term(log, log->last_index))};
    }
    node->is_impaired = true;
}

/* The receiver makes the state durable before it says so. */
static void install(struct raft__world *world, raft_node id, const struct raft__world_state *state)
{
    struct raft__world_node *node = &world->nodes[id];
    if (node->raft == NULL) {
        return;
    }
    raft__world_persist(world, id, node->write_count);
    if (state->index <= node->applied.index) {
        return;
    }
    if (log_term(&node->durable_log, state->index) != state->term) {
        log_init(&node->log, state->index + 1, state->term);
        log_init(&node->durable_log, state->index + 1, state->term);
    } else {
        log_compact(&node->log, state->index);
        log_compact(&node->durable_log, state->index);
    }
    struct raft__world_state own = node->applied;
    node->applied = *state;
    if (state->configuration.voter_count == 0) { /* The sender knows of none up to there. */
        node->applied.configuration = own.configuration;
        node->applied.configuration_index = own.configuration_index;
    }
    node->stored = node->applied;
    struct raft_input input = {.kind = RAFT_INPUT_SNAPSHOT_INSTALLED,
                               .index = state->index,
                               .index_term = state->term,
                               .configuration = &state->configuration};
    int status = raft__world_step(world, id, input);
    ASSERT(status == 0);
}

void raft__world_snapshot(struct raft__world *world, raft_node from, raft_node to, bool has_failed)
{
    struct raft__world_state state = world->nodes[from].applied;
    if (!has_failed) {
        install(world, to, &state);
    }
    struct raft_input input = {.kind = RAFT_INPUT_SNAPSHOT_SENT,
                               .node = to,
                               .index = state.index,
                               .has_failed = has_failed};
    int status = raft__world_step(world, from, input);
    ASSERT(status == 0);
}

/* ---- Lives ----------------------------------------------------------------------------------- */

void raft__world_init(struct raft__world *world)
{
    *world = (struct raft__world){0};
    log_init(&world->committed, 1, 0);
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        world->nodes[i].id = i;
    }
}

static void forget_volatile(struct raft__world_node *node)
{
    raft_destroy(node->raft);
    node->raft = NULL;
    for (uint32_t i = 0; i < node->write_count; i++) {
        memory_free(node->writes[i].entries);
    }
    node->write_count = 0;
    packets_clear(&node->held);
    log_init(&node->log, 1, 0);
    node->durable_sequence = 0;
    node->output = (struct raft_output){0};
    node->wanted_snapshot_count = 0;
}

void raft__world_deinit(struct raft__world *world)
{
    for (raft_node i = 1; i <= RAFT__WORLD_NODE_COUNT_MAX; i++) {
        struct raft__world_node *node = &world->nodes[i];
        forget_volatile(node);
        memory_free(node->writes);
        memory_free(node->held.room);
        memory_free(node->log.entries);
        memory_free(node->durable_log.entries);
        memory_free(node->former_log.entries);
    }
    packets_clear(&world->network);
    memory_free(world->network.room);
    memory_free(world->committed.entries);
    buffer_deinit(&world->shown);
}

void raft__world_add(struct raft__world *world, raft_node id,
                     const struct raft_configuration *configuration)
{
    struct raft__world_node *node = &world->nodes[id];
    ASSERT(!node->exists);
    node->exists = true;
    log_init(&node->durable_log, 1, 0);
    node->stored.configuration = *configuration;
}

void raft__world_prepare(struct raft__world *world, raft_node id, const uint32_t *terms,
                         uint32_t count, raft_term newest_term)
{
    struct raft__world_node *node = &world->nodes[id];
    for (uint32_t i = 0; i < count; i++) {
        struct raft__world_entry entry = {.term = terms[i],
                                          .value = UINT64_MAX - terms[i] * 1000u - i};
        log_append(&node->durable_log, &entry);
    }
    node->durable_hard_state.term = newest_term;
}

void raft__world_start(struct raft__world *world, raft_node id)
{
    struct raft__world_node *node = &world->nodes[id];
    ASSERT(node->raft == NULL && node->exists);
    log_copy(&node->log, &node->durable_log);
    node->applied = node->stored;
    uint64_t count = node->log.last_index + 1 - node->log.first_index;
    struct raft_entry *heads = memory_allocate_zeroed(count + 1, sizeof *heads);
    for (uint64_t i = 0; i < count; i++) {
        heads[i] = (struct raft_entry){.term = node->log.entries[i].term,
                                       .kind = node->log.entries[i].kind,
                                       .configuration = &node->log.entries[i].configuration};
    }
    struct raft_options options = world->options;
    options.self = id;
    options.hard_state = node->durable_hard_state;
    options.first_index = node->log.first_index;
    options.previous_term = node->log.previous_term;
    options.last_index = node->log.last_index;
    options.entries = heads;
    options.commit_index = node->stored.index;
    options.configuration = node->stored.configuration;
    options.configuration_index = node->stored.configuration_index;
    options.is_impaired = node->is_impaired;
    node->was_impaired = node->is_impaired;
    options.random_seed = ++node->seed * 1000 + id;
    options.now_ms = node->now_ms;
    struct error error = {0};
    int status = raft_create(&node->raft, &options, &error);
    if (status != 0) {
        raft__world_violate(world, "%" PRIu32 " does not start: %s", id, error.message);
    }
    memory_free(heads);
    node->output = (struct raft_output){.term = options.hard_state.term,
                                        .commit_index = options.commit_index,
                                        .is_impaired = node->is_impaired};
}

void raft__world_crash(struct raft__world *world, raft_node id, uint32_t kept_count)
{
    struct raft__world_node *node = &world->nodes[id];
    ASSERT(node->raft != NULL);
    node->is_impaired = node->output.is_impaired || node->does_forget;
    if (node->does_forget) {
        PROBE("raft.world.forgets_whole");
    }
    node->does_forget = false;
    complete_writes(node, kept_count);
    forget_volatile(node);
}
