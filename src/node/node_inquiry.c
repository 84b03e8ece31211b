/* SPDX-License-Identifier: Apache-2.0 */
/* What this node asks others on behalf of an operator, and what it answers them (core/inquiry).
 *
 * A survey asks every node that is connected how it is, this one included, and is over when all
 * have answered or SURVEY_MS have passed: a node that is stuck costs the operator that time and the
 * view its row. Nothing is kept between two surveys.
 *
 * What is to be told of this node is put together some replicas in each tick, one answer after the other: so
 * no request waits for more than that, however many shards there are and however many ask. */
#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { SURVEY_MS = 1000, HANDOVER_MS = 3000, SWEEP_MS = 50 };

struct node_inquiries {
    struct node_cluster *cluster;
    struct list tellings; /* The first of them is being put together. */
    struct list surveys;
    struct list handovers;
    uint64_t number; /* Of the newest question. */
    struct os_timer *timer;
    bool is_timed;
    struct buffer message;
};

struct survey {
    struct node_survey *result;
    struct list link;
    uint64_t number;
    uint64_t until_ms;
    uint32_t awaited_count; /* Of other nodes. */
    bool is_described;      /* This one is. */
    node_survey_done done;
    void *context;
};

/* What is to be told of this node. */
struct telling {
    struct list link;
    struct node_description description;
    uint64_t number;
    uint64_t until_ms;     /* Then whoever asked waits no longer. */
    raft_node asker;       /* Who is told; */
    struct survey *survey; /* or it is one of our own, which waits for this in any case. */
};

struct handover {
    struct list link;
    uint64_t number;
    uint64_t until_ms;
    node_handover_done done;
    void *context;
};

/* ---- Answers --------------------------------------------------------------------------------- */

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

static struct telling *add_telling(struct node_inquiries *inquiries, uint64_t number)
{
    struct telling *telling = memory_allocate_zeroed(1, sizeof *telling);
    telling->number = number;
    telling->until_ms = os_monotonic_ms() + SURVEY_MS;
    list_push_back(&inquiries->tellings, &telling->link);
    return telling;
}

static void end_telling(struct telling *telling)
{
    list_remove(&telling->link);
    node_description_deinit(&telling->description);
    memory_free(telling);
}

/* ---- Surveys --------------------------------------------------------------------------------- */

void node_survey_destroy(struct node_survey *survey)
{
    for (uint32_t i = 0; i < survey->answer_count; i++) {
        buffer_deinit(&survey->answers[i].message);
    }
    memory_free(survey->groups);
    memory_free(survey);
}

/* Others have a time; this node says in any case how it is. */
static void end_survey_if_over(struct survey *survey)
{
    if (survey->is_described &&
        (survey->awaited_count == 0 || os_monotonic_ms() >= survey->until_ms)) {
        list_remove(&survey->link);
        survey->done(survey->context, survey->result);
        memory_free(survey);
    }
}

static void describe_self(struct survey *survey, struct node_description *description)
{
    struct node_survey *result = survey->result;
    result->answers[0].kind = NODE_ANSWER_CAME;
    result->answers[0].message = description->answer;
    result->groups = description->groups;
    result->group_count = description->group_count;
    description->answer = (struct buffer){0};
    description->groups = NULL;
    survey->is_described = true;
    end_survey_if_over(survey);
}

/* The next to be put together; NULL: there is none. What comes too late for its asker is left out, so no more
 * wait than were asked within SURVEY_MS. */
static struct telling *first_telling(struct node_inquiries *inquiries)
{
    uint64_t now_ms = os_monotonic_ms();
    LIST_EACH(member, next, &inquiries->tellings)
    {
        struct telling *telling = LIST_ITEM(member, struct telling, link);
        if (telling->survey != NULL || now_ms < telling->until_ms) {
            return telling;
        }
        end_telling(telling);
    }
    return NULL;
}

void node_inquiry_tick(struct node_cluster *cluster)
{
    struct node_inquiries *inquiries = cluster->inquiries;
    if (list_is_empty(&inquiries->tellings)) {
        return;
    }
    struct telling *telling = first_telling(inquiries);
    if (telling == NULL) {
        return;
    }
    if (node_describe(&telling->description, cluster, telling->number)) {
        if (telling->survey != NULL) {
            describe_self(telling->survey, &telling->description);
        } else {
            node_cluster_send_inquiry(cluster, telling->asker,
                                      buffer_bytes(&telling->description.answer));
        }
        end_telling(telling);
    }
    if (!list_is_empty(&inquiries->tellings)) {
        os_loop_tick_again(cluster->loop);
    }
}

/* ---- What came ------------------------------------------------------------------------------- */

static void note_figures(struct node_inquiries *inquiries, raft_node from, uint64_t number,
                         struct bytes payload)
{
    LIST_EACH(member, next, &inquiries->surveys)
    {
        struct survey *survey = LIST_ITEM(member, struct survey, link);
        if (survey->number != number) {
            continue;
        }
        for (uint32_t i = 1; i < survey->result->answer_count; i++) {
            struct node_answer *answer = &survey->result->answers[i];
            if (answer->node == from && answer->kind == NODE_ANSWER_LATE) {
                answer->kind = NODE_ANSWER_CAME;
                buffer_append(&answer->message, payload);
                survey->awaited_count--;
            }
        }
        end_survey_if_over(survey);
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
        add_telling(inquiries, message.number)->asker = from;
        return;
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
        end_survey_if_over(LIST_ITEM(member, struct survey, link));
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
    struct node_survey *result = memory_allocate_zeroed(1, sizeof *result);
    survey->result = result;
    survey->number = ++inquiries->number;
    survey->until_ms = os_monotonic_ms() + SURVEY_MS;
    survey->done = done;
    survey->context = context;
    list_push_back(&inquiries->surveys, &survey->link);
    struct telling *telling = add_telling(inquiries, survey->number);
    telling->survey = survey;
    telling->description.wants_groups = true;
    result->answers[result->answer_count++] =
        (struct node_answer){.node = cluster->self, .kind = NODE_ANSWER_LATE};
    buffer_clear(&inquiries->message);
    inquiry_encode_figures(&inquiries->message, survey->number);
    for (uint32_t i = 0; i < cluster->peer_count; i++) {
        uint32_t node = cluster->peers[i].id;
        struct node_answer *answer = &result->answers[result->answer_count++];
        *answer = (struct node_answer){.node = node, .kind = NODE_ANSWER_UNREACHABLE};
        if (wire_is_connected(cluster->wire, node)) {
            answer->kind = NODE_ANSWER_LATE;
            survey->awaited_count++;
            node_cluster_send_inquiry(cluster, node, buffer_bytes(&inquiries->message));
        }
    }
    if (survey->awaited_count > 0) {
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

void node_inquiries_open(struct node_cluster *cluster)
{
    struct node_inquiries *created = memory_allocate_zeroed(1, sizeof *created);
    created->cluster = cluster;
    list_init(&created->tellings);
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
    while (!list_is_empty(&inquiries->tellings)) {
        end_telling(LIST_ITEM(inquiries->tellings.next, struct telling, link));
    }
    for (struct list *link; (link = list_pop_front(&inquiries->surveys)) != NULL;) {
        struct survey *survey = LIST_ITEM(link, struct survey, link);
        node_survey_destroy(survey->result);
        memory_free(survey);
    }
    for (struct list *link; (link = list_pop_front(&inquiries->handovers)) != NULL;) {
        memory_free(LIST_ITEM(link, struct handover, link));
    }
    os_timer_destroy(inquiries->timer);
    buffer_deinit(&inquiries->message);
    memory_free(inquiries);
}
