/* SPDX-License-Identifier: Apache-2.0 */
/* What this node asks others on behalf of an operator, and what it answers them (core/inquiry).
 *
 * A survey asks every node that is connected how it is, this one included, and is over when all
 * have answered or SURVEY_MS have passed: a node that is stuck costs the operator that time and the
 * view its row. Nothing is kept between two surveys. */
#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { SURVEY_MS = 1000, HANDOVER_MS = 3000, SWEEP_MS = 50 };

struct node_inquiries {
    struct node_cluster *cluster;
    struct node_sampler *sampler;
    uint64_t started_at_ms;
    struct list surveys;
    struct list handovers;
    uint64_t number; /* Of the newest question. */
    struct os_timer *timer;
    bool is_timed;
    struct buffer message;
    struct node_sample sample;
};

struct survey {
    struct node_survey survey;
    struct list link;
    uint64_t number;
    uint64_t until_ms;
    uint32_t awaited_count;
    node_survey_done done;
    void *context;
};

struct handover {
    struct list link;
    uint64_t number;
    uint64_t until_ms;
    node_handover_done done;
    void *context;
};

/* ---- Answers --------------------------------------------------------------------------------- */

static bool is_member(const struct raft_configuration *members, raft_node node)
{
    return raft_configuration_has_voter(members, node) ||
           raft_configuration_has_learner(members, node);
}

/* A member of a group that is led here. */
static struct inquiry_member describe_member(struct node_inquiries *inquiries,
                                             const struct node_shard *shard, raft_node node,
                                             bool is_voter)
{
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t peer_count = shard_get_peers(shard->shard, peers);
    raft_index applied = shard_applied_index(shard->shard);
    struct inquiry_member member = {.node = node, .is_voter = is_voter};
    if (node == shard->host->self && shard_is_impaired(shard->shard)) {
        member.state = INQUIRY_MEMBER_DAMAGED;
    }
    for (uint32_t i = 0; i < peer_count; i++) {
        if (peers[i].node != node) {
            continue;
        }
        raft_index match = peers[i].match_index;
        if (match == 0) { /* A new leader has not heard of it yet. */
            member.lag_entries = INQUIRY_UNKNOWN;
            member.lag_ms = INQUIRY_UNKNOWN;
        } else if (applied > match) {
            member.lag_entries = applied - match;
            member.lag_ms = node_sampler_behind_ms(inquiries->sampler, shard->place, match);
        }
        if (peers[i].progress == RAFT_PROGRESS_SNAPSHOT) {
            member.state = INQUIRY_MEMBER_SNAPSHOT;
        } else if (peers[i].is_impaired) {
            member.state = INQUIRY_MEMBER_DAMAGED;
        }
    }
    return member;
}

static void describe_replica(struct node_inquiries *inquiries, const struct node_shard *shard,
                             struct inquiry_replica *replica)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    struct shard_statistics statistics;
    struct kv_statistics kv;
    struct node_shard_sample sample;
    node_sampler_get_shard(inquiries->sampler, shard->place, &sample);
    shard_get_statistics(shard->shard, &statistics);
    kv_get_statistics(shard->kv, &kv);
    *replica = (struct inquiry_replica){
        .shard = shard->id,
        .is_leader = shard_is_ready(shard->shard),
        .is_changing = members->outgoing_count > 0,
        .term = statistics.term,
        .figures = {[INQUIRY_APPLIED_INDEX] = statistics.applied_index,
                    [INQUIRY_SIZE_BYTES] = sample.size_bytes,
                    [INQUIRY_KEYS] = kv.key_count,
                    [INQUIRY_REPLICA_READS_PER_1000_S] = sample.reads_per_1000_s,
                    [INQUIRY_REPLICA_WRITES_PER_1000_S] = sample.writes_per_1000_s},
    };
    if (!replica->is_leader) {
        return;
    }
    for (uint32_t i = 0; i < members->voter_count; i++) {
        replica->members[replica->member_count++] =
            describe_member(inquiries, shard, members->voters[i], true);
    }
    for (uint32_t i = 0; i < members->learner_count; i++) {
        replica->members[replica->member_count++] =
            describe_member(inquiries, shard, members->learners[i], false);
    }
}

static void describe_self(struct node_inquiries *inquiries, uint64_t number, struct buffer *target)
{
    const struct node_cluster *cluster = inquiries->cluster;
    const struct node_shards *shards = cluster->shards;
    struct node_sample *sample = &inquiries->sample;
    uint32_t count = 0;
    node_sampler_get(inquiries->sampler, sample);
    sample->figures[INQUIRY_UPTIME_S] = (os_monotonic_ms() - inquiries->started_at_ms) / 1000;
    for (uint32_t i = 0; i < shards->count; i++) {
        count += is_member(shard_configuration(shards->items[i].shard), cluster->self);
    }
    inquiry_answer_begin(target, number, sample->figures, sample->latencies, count);
    for (uint32_t i = 0; i < shards->count; i++) {
        struct inquiry_replica replica;
        if (is_member(shard_configuration(shards->items[i].shard), cluster->self)) {
            describe_replica(inquiries, &shards->items[i], &replica);
            inquiry_answer_add(target, &replica);
        }
    }
}

static enum inquiry_outcome hand_over(struct node_cluster *cluster, wal_shard id, raft_node node)
{
    struct node_shard *shard = node_shards_find(cluster->shards, id);
    if (shard == NULL || !shard_is_ready(shard->shard)) {
        return INQUIRY_NOT_LEADER;
    }
    node_shard_touch(shard);
    int status = node == cluster->self ? 0 : shard_transfer(shard->shard, node);
    return status == 0 ? INQUIRY_DONE : status == -EINVAL ? INQUIRY_NO_REPLICA : INQUIRY_NOT_NOW;
}

/* ---- What came ------------------------------------------------------------------------------- */

static void end_survey(struct survey *survey)
{
    list_remove(&survey->link);
    survey->done(survey->context, &survey->survey);
    for (uint32_t i = 0; i < survey->survey.answer_count; i++) {
        buffer_deinit(&survey->survey.answers[i].message);
    }
    memory_free(survey);
}

static void note_figures(struct node_inquiries *inquiries, raft_node from, uint64_t number,
                         struct bytes payload)
{
    LIST_EACH(member, next, &inquiries->surveys)
    {
        struct survey *survey = LIST_ITEM(member, struct survey, link);
        if (survey->number != number) {
            continue;
        }
        for (uint32_t i = 0; i < survey->survey.answer_count; i++) {
            struct node_answer *answer = &survey->survey.answers[i];
            if (answer->node == from && answer->kind == NODE_ANSWER_LATE) {
                answer->kind = NODE_ANSWER_CAME;
                buffer_append(&answer->message, payload);
                survey->awaited_count--;
            }
        }
        if (survey->awaited_count == 0) {
            end_survey(survey);
        }
        return;
    }
}

static void end_handover(struct handover *handover, const struct node_handover_result *result)
{
    list_remove(&handover->link);
    handover->done(handover->context, result);
    memory_free(handover);
}

static void note_handover(struct node_inquiries *inquiries, const struct inquiry_message *message)
{
    LIST_EACH(member, next, &inquiries->handovers)
    {
        struct handover *handover = LIST_ITEM(member, struct handover, link);
        if (handover->number == message->number) {
            struct node_handover_result result = {
                .is_answered = true, .outcome = message->outcome, .leader = message->leader};
            end_handover(handover, &result);
            return;
        }
    }
}

void node_inquiry_receive(struct node_cluster *cluster, raft_node from, struct bytes payload)
{
    struct node_inquiries *inquiries = cluster->inquiries;
    struct inquiry_message message;
    if (inquiry_message_decode(payload, &message) != 0) {
        OS_LOG_WARN(cluster->log, "node.malformed", "node=%u kind=%s", from, "inquiry");
        return;
    }
    buffer_clear(&inquiries->message);
    switch (message.kind) {
    case INQUIRY_FIGURES:
        describe_self(inquiries, message.number, &inquiries->message);
        break;
    case INQUIRY_TRANSFER: {
        const struct node_shard *shard = node_shards_find(cluster->shards, message.shard);
        enum inquiry_outcome outcome = hand_over(cluster, message.shard, message.node);
        inquiry_encode_transfer_answer(&inquiries->message, message.number, outcome,
                                       shard != NULL ? shard_leader(shard->shard) : 0);
        break;
    }
    case INQUIRY_FIGURES_ANSWER:
        note_figures(inquiries, from, message.number, payload);
        return;
    case INQUIRY_TRANSFER_ANSWER:
        note_handover(inquiries, &message);
        return;
    }
    node_cluster_send_inquiry(cluster, from, buffer_bytes(&inquiries->message));
}

/* ---- Questions ------------------------------------------------------------------------------- */

static void sweep(void *context)
{
    struct node_inquiries *inquiries = context;
    uint64_t now_ms = os_monotonic_ms();
    LIST_EACH(member, next, &inquiries->surveys)
    {
        struct survey *survey = LIST_ITEM(member, struct survey, link);
        if (now_ms >= survey->until_ms) {
            end_survey(survey);
        }
    }
    LIST_EACH(waiting, later, &inquiries->handovers)
    {
        struct handover *handover = LIST_ITEM(waiting, struct handover, link);
        if (now_ms >= handover->until_ms) {
            end_handover(handover, &(struct node_handover_result){0});
        }
    }
    if (list_is_empty(&inquiries->surveys) && list_is_empty(&inquiries->handovers)) {
        os_timer_stop(inquiries->timer);
        inquiries->is_timed = false;
    }
}

static void start_timer(struct node_inquiries *inquiries)
{
    if (!inquiries->is_timed) {
        inquiries->is_timed = true;
        os_timer_start(inquiries->timer, SWEEP_MS, SWEEP_MS);
    }
}

void node_survey_start(struct node_cluster *cluster, node_survey_done done, void *context)
{
    struct node_inquiries *inquiries = cluster->inquiries;
    struct survey *survey = memory_allocate_zeroed(1, sizeof *survey);
    survey->number = ++inquiries->number;
    survey->until_ms = os_monotonic_ms() + SURVEY_MS;
    survey->done = done;
    survey->context = context;
    list_push_back(&inquiries->surveys, &survey->link);
    struct node_answer *answers = survey->survey.answers;
    answers[0] = (struct node_answer){.node = cluster->self, .kind = NODE_ANSWER_CAME};
    describe_self(inquiries, survey->number, &answers[0].message);
    survey->survey.answer_count = 1;
    buffer_clear(&inquiries->message);
    inquiry_encode_figures(&inquiries->message, survey->number);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        uint32_t node = cluster->peers[i].id;
        struct node_answer *answer = &answers[survey->survey.answer_count++];
        *answer = (struct node_answer){.node = node, .kind = NODE_ANSWER_UNREACHABLE};
        if (wire_is_connected(cluster->wire, node)) {
            answer->kind = NODE_ANSWER_LATE;
            survey->awaited_count++;
            node_cluster_send_inquiry(cluster, node, buffer_bytes(&inquiries->message));
        }
    }
    if (survey->awaited_count == 0) {
        end_survey(survey);
    } else {
        start_timer(inquiries);
    }
}

void node_handover_start(struct node_cluster *cluster, const struct node_handover_request *request,
                         node_handover_done done, void *context)
{
    struct node_inquiries *inquiries = cluster->inquiries;
    struct node_handover_result result = {.leader = request->leader};
    if (request->leader == cluster->self) {
        const struct node_shard *shard = node_shards_find(cluster->shards, request->shard);
        result.is_answered = true;
        result.outcome = hand_over(cluster, request->shard, request->node);
        result.leader = shard != NULL ? shard_leader(shard->shard) : 0;
        done(context, &result);
        return;
    }
    struct handover *handover = memory_allocate_zeroed(1, sizeof *handover);
    handover->number = ++inquiries->number;
    handover->until_ms = os_monotonic_ms() + HANDOVER_MS;
    handover->done = done;
    handover->context = context;
    list_push_back(&inquiries->handovers, &handover->link);
    buffer_clear(&inquiries->message);
    inquiry_encode_transfer(&inquiries->message, handover->number, request->shard, request->node);
    node_cluster_send_inquiry(cluster, request->leader, buffer_bytes(&inquiries->message));
    start_timer(inquiries);
}

/* ---- Life ------------------------------------------------------------------------------------ */

void node_inquiries_open(struct node_cluster *cluster, struct node_sampler *sampler,
                         uint64_t started_at_ms)
{
    struct node_inquiries *created = memory_allocate_zeroed(1, sizeof *created);
    created->cluster = cluster;
    created->sampler = sampler;
    created->started_at_ms = started_at_ms;
    list_init(&created->surveys);
    list_init(&created->handovers);
    created->timer = os_timer_create(cluster->loop, sweep, created);
    cluster->inquiries = created;
}

void node_inquiries_close(struct node_cluster *cluster)
{
    struct node_inquiries *inquiries = cluster->inquiries;
    if (inquiries == NULL) {
        return;
    }
    for (struct list *link; (link = list_pop_front(&inquiries->surveys)) != NULL;) {
        struct survey *survey = LIST_ITEM(link, struct survey, link);
        for (uint32_t i = 0; i < survey->survey.answer_count; i++) {
            buffer_deinit(&survey->survey.answers[i].message);
        }
        memory_free(survey);
    }
    for (struct list *link; (link = list_pop_front(&inquiries->handovers)) != NULL;) {
        memory_free(LIST_ITEM(link, struct handover, link));
    }
    os_timer_destroy(inquiries->timer);
    buffer_deinit(&inquiries->message);
    memory_free(inquiries);
}
