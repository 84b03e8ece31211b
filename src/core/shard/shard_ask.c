/* SPDX-License-Identifier: Apache-2.0 */
/* What a replica asks the leader of its group, besides what Raft does (decision 18).
 *
 *   narrow    It has nothing, and takes neither the first entries nor a snapshot from before a
 *             split: the slots that the shard had then are another's here. So it tells where the
 *             shard ends by the map that it knows. A leader that has a SPLIT in its log which
 *             begins the child there, or later, and does not know yet that it is committed, knows
 *             it now: nobody can tell of a split that was not applied somewhere. Else it might wait
 *             for the very replica that waits for a snapshot from behind that entry.
 *   question  It has state, and has heard of no leader for long: does it belong to the group? Only
 *             "no" is answered (shard_discard.c).
 *
 * Neither is believed, or answered, before a quorum has confirmed the leader in a round that began
 * after it came: so until then nobody had been elected in a later term. The SPLIT that was told of
 * was then committed in this term or before, and is in the log of this leader; a log has no two
 * that begin a child at the same slot or one behind another, because a leader proposes the next
 * when it has applied those before. And the replica that asked had promised nothing to a later
 * leader. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    DOUBT_TIMEOUT_COUNT = 8, /* Election timeouts without a leader. */
    DOUBT_FACTOR_MAX = 4,    /* Between two questions, as many times as long. */
};

/* ---- The replica that asks ------------------------------------------------------------------- */

static void send(struct shard *shard, raft_node to, struct bytes message)
{
    struct shard_host *host = &shard->options.host;
    host->send(host->context, shard, to, &message, 1);
}

void shard__ask_narrow(struct shard *shard, raft_node leader)
{
    if (shard->options.may_log_end_early) {
        return; /* A log that need not be flushed may have lost a split that maps tell of. */
    }
    uint8_t bytes[SHARD_MESSAGE_QUESTION_SIZE_BYTES];
    struct shard_question question = {.end_slot = shard->range.end};
    shard__message_encode_question(SHARD_MESSAGE_NARROW, &question, bytes);
    send(shard, leader, bytes_make(bytes, sizeof bytes));
}

static uint64_t patience_ms(const struct shard *shard)
{
    uint64_t timeout_ms = shard->options.election_timeout_ms;
    return DOUBT_TIMEOUT_COUNT * (timeout_ms != 0 ? timeout_ms : RAFT_ELECTION_TIMEOUT_MS);
}

void shard__ask_later(struct shard *shard)
{
    shard->question = 0;
    shard->doubt_interval_ms = patience_ms(shard);
    shard->doubt_at_ms = shard__now_ms(shard) + shard->doubt_interval_ms;
}

uint64_t shard__ask_tick(struct shard *shard, uint64_t now_ms)
{
    struct shard_host *host = &shard->options.host;
    if (host->list_nodes == NULL || shard->role == RAFT_ROLE_LEADER || shard->install != NULL ||
        shard->discard != NULL || shard_is_empty(shard)) {
        return UINT64_MAX;
    }
    if (shard_is_quiet(shard)) {
        shard->doubt_at_ms = UINT64_MAX; /* Nothing is to be heard, and nothing to be doubted. */
        return UINT64_MAX;
    }
    if (shard->doubt_at_ms == UINT64_MAX) {
        shard__ask_later(shard);
    }
    if (now_ms < shard->doubt_at_ms) {
        return shard->doubt_at_ms;
    }
    PROBE("shard.doubts");
    if (shard->doubt_interval_ms < DOUBT_FACTOR_MAX * patience_ms(shard)) {
        shard->doubt_interval_ms *= 2;
    }
    shard->doubt_at_ms = now_ms + shard->doubt_interval_ms;
    shard->question = random_next(&shard->random) | 1;
    uint8_t bytes[SHARD_MESSAGE_QUESTION_SIZE_BYTES];
    struct shard_question question = {.number = shard->question};
    shard__message_encode_question(SHARD_MESSAGE_QUESTION, &question, bytes);
    raft_node nodes[SHARD_NODE_COUNT_MAX];
    uint32_t count = host->list_nodes(host->context, nodes);
    for (uint32_t i = 0; i < count; i++) {
        send(shard, nodes[i], bytes_make(bytes, sizeof bytes));
    }
    return shard->doubt_at_ms;
}

/* ---- The leader ------------------------------------------------------------------------------ */

static void drop(struct shard *shard, uint32_t place)
{
    shard->asked_count--;
    memmove(&shard->asked[place], &shard->asked[place + 1],
            (shard->asked_count - place) * sizeof shard->asked[0]);
}

int shard__ask_receive(struct shard *shard, raft_node from, enum shard_message_kind kind,
                       struct bytes message)
{
    struct shard_question question;
    int status = shard__message_decode_question(message, &question);
    if (status == 0 && shard->role != RAFT_ROLE_LEADER && shard_leader(shard) == from) {
        PROBE("shard.leader_asks");
        shard_peer_lost(shard, from); /* It leads no more, and this group is quiet. */
    }
    if (status != 0 || shard->role != RAFT_ROLE_LEADER) {
        return status;
    }
    for (uint32_t i = 0; i < shard->asked_count; i++) {
        if (shard->asked[i].node == from && shard->asked[i].kind == kind) {
            return 0; /* It will ask again. */
        }
    }
    if (shard->asked_count < SHARD_ASKED_COUNT_MAX) {
        shard->asked[shard->asked_count++] = (struct shard_asked){
            .kind = kind, .node = from, .question = question, .round = shard__confirm(shard)};
    }
    return 0;
}

/* 0: it is none. */
static uint32_t slot_of_split(struct shard *shard, struct bytes payload)
{
    struct shard_decoder decoder;
    struct shard_decoded decoded;
    struct shard_split split = {0};
    if (payload.size_bytes == 0 || payload.data[0] == SHARD_PAYLOAD_CONFIGURATION ||
        shard__decode_begin(&decoder, payload) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < decoder.command_count; i++) {
        if (shard__decode_next(shard, &decoder, &decoded) != 0) {
            return 0;
        }
        if (decoded.command.opcode == SHARD_OPCODE_SPLIT &&
            !shard__split_parse(&decoded.command, &split)) {
            return 0;
        }
    }
    return split.first_slot;
}

/* The last entry that is not committed and begins a child at that slot or behind it; 0: there is
 * none. */
static raft_index find_split(struct shard *shard, uint32_t end_slot)
{
    const struct shard_host *host = &shard->options.host;
    raft_index found = 0;
    struct buffer loaded = {0};
    for (raft_index i = shard->commit_index + 1; i <= raft_last_index(shard->raft); i++) {
        const struct shard_entry *entry = shard__log_at(shard, i);
        raft_term term = 0;
        buffer_clear(&loaded);
        if (entry == NULL &&
            host->load_entry(host->context, shard->options.id, i, &term, &loaded, NULL) != 0) {
            break;
        }
        uint32_t slot =
            slot_of_split(shard, buffer_bytes(entry != NULL ? &entry->payload : &loaded));
        found = slot >= end_slot ? i : found;
    }
    buffer_deinit(&loaded);
    return found;
}

static void believe(struct shard *shard, const struct shard_asked *asked)
{
    bool is_of_use = asked->question.end_slot < shard->range.end && !shard->is_stateless &&
                     !shard->options.may_log_end_early &&
                     shard->commit_index < raft_last_index(shard->raft);
    raft_index index = is_of_use ? find_split(shard, asked->question.end_slot) : 0;
    if (index != 0) {
        PROBE("shard.split_believed");
        TRACE("shard.split_believed", shard->options.id, asked->node, index, shard->commit_index);
        shard__committed(shard, index);
    }
}

/* All that is applied is where it counts without the one who asks, and so is who belongs to the
 * group. */
static void answer(struct shard *shard, const struct shard_asked *asked)
{
    const struct raft_configuration *members = raft_latest_configuration(shard->raft);
    bool is_changing = members->outgoing_count > 0 ||
                       raft_latest_configuration_index(shard->raft) > shard->applied_index;
    if (!shard_is_ready(shard) || is_changing ||
        raft_configuration_has_member(members, asked->node)) {
        return;
    }
    PROBE("shard.told_that_it_left");
    struct buffer message = {0};
    struct shard_membership membership = {.number = asked->question.number,
                                          .term = shard->term,
                                          .index = shard->applied_index,
                                          .members = *members};
    shard__message_encode_membership(&membership, &message);
    send(shard, asked->node, buffer_bytes(&message));
    buffer_deinit(&message);
}

void shard__ask_answer(struct shard *shard)
{
    if (shard->role != RAFT_ROLE_LEADER) {
        shard->asked_count = 0;
        return;
    }
    for (uint32_t i = 0; i < shard->asked_count;) {
        struct shard_asked asked = shard->asked[i];
        if (shard->confirmed_round < asked.round) {
            i++;
            continue;
        }
        drop(shard, i);
        if (asked.kind == SHARD_MESSAGE_NARROW) {
            believe(shard, &asked);
        } else {
            answer(shard, &asked);
        }
    }
}
