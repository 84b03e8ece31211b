/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of what nodes said of their replicas, not all of it at the same moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "node/node_overview.h"

enum { SHARD_COUNT = 100, PARENT = 10, CHILD = SHARD_COUNT + 1, UNKNOWN = 900 };

#define CAPACITY_BYTES ((uint64_t)1 << 30)

/* Led by the node of that number: nodes 1 and 2 take turns. */
static raft_node leader_of(wal_shard shard)
{
    return 1 + shard % 2;
}

static void add_led(struct buffer *answer, wal_shard shard, raft_term term,
                    const raft_node *members, uint32_t member_count)
{
    struct inquiry_replica replica = {
        .shard = shard, .is_leader = true, .term = term, .member_count = member_count};
    for (uint32_t i = 0; i < member_count; i++) {
        replica.members[i] =
            (struct inquiry_member){.node = members[i], .is_voter = true, .lag_ms = 100 * i};
    }
    inquiry_answer_add(answer, &replica);
}

static void begin_answer(struct node_survey *survey, raft_node node, enum node_answer_kind kind)
{
    const uint64_t figures[INQUIRY_FIGURE_COUNT] = {
        [INQUIRY_UPTIME_S] = 5,
        [INQUIRY_DISK_CAPACITY_BYTES] = CAPACITY_BYTES,
        [INQUIRY_DISK_FREE_BYTES] = CAPACITY_BYTES / 2,
    };
    static const struct histogram latencies[INQUIRY_LATENCY_COUNT];
    struct node_answer *answer = &survey->answers[survey->answer_count++];
    answer->node = node;
    answer->kind = kind;
    if (kind == NODE_ANSWER_CAME) {
        inquiry_answer_begin(&answer->message, 1, figures, latencies, 0);
    }
}

/* The disk of one node may be full. */
static struct overview *overview_create_with(raft_node full)
{
    struct overview *overview = memory_allocate_zeroed(1, sizeof *overview);
    overview->survey = memory_allocate_zeroed(1, sizeof *overview->survey);
    overview->self = 1;
    overview->peer_count = 2;
    overview->alive_count = 3;
    overview->voters_wanted = 3;
    slots_divide(&overview->map, SHARD_COUNT);
    overview->nodes = memory_allocate_zeroed(3, sizeof overview->nodes[0]);
    overview->node_capacity = 3;
    overview->node_count = 3;
    overview->written = memory_allocate_zeroed(3, sizeof overview->written[0]);
    overview->written_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        overview->nodes[i] = (struct overview_node){
            .id = i + 1, .is_heard_of = true, .is_full = i + 1 == full, .lag_ms = INQUIRY_UNKNOWN};
        overview->written[i] = (struct system_node){.id = i + 1};
        overview->written[i].state = SYSTEM_NODE_ACTIVE;
        begin_answer(overview->survey, i + 1, i < 2 ? NODE_ANSWER_CAME : NODE_ANSWER_LATE);
    }
    return overview;
}

static struct overview *overview_create(void)
{
    return overview_create_with(0);
}

/* Each shard by who leads it, and each group as this node has it, with another leader. */
static void say_all(struct overview *overview)
{
    static const raft_node members[] = {1, 2, 3};
    struct node_survey *survey = overview->survey;
    survey->groups = memory_allocate_zeroed(SHARD_COUNT + 1, sizeof survey->groups[0]);
    uint32_t counts[2] = {0};
    for (wal_shard shard = 1; shard <= SHARD_COUNT; shard++) {
        raft_node leader = leader_of(shard);
        add_led(&survey->answers[leader - 1].message, shard, 4, members, 3);
        counts[leader - 1]++;
        survey->groups[survey->group_count++] = (struct node_group){
            .shard = shard, .leader = 3, .members = {.voter_count = 3, .voters = {1, 2, 3}}};
    }
    for (uint32_t i = 0; i < 2; i++) {
        inquiry_answer_end(&survey->answers[i].message, counts[i]);
    }
}

static struct json *parse(struct json *answer, const struct buffer *items)
{
    struct buffer text = {0};
    struct json *parsed = NULL;
    json_write_with(answer, "shards", buffer_bytes(items), &text);
    assert_int_equal(json_parse(&parsed, buffer_bytes(&text), NULL), 0);
    buffer_deinit(&text);
    json_destroy(answer);
    return parsed;
}

static struct json *list_shards(const struct overview *overview, double shard, double node)
{
    struct json *answer = json_object_create();
    struct buffer items = {0};
    node_overview_judge(overview, answer);
    node_overview_shards(overview, shard, node, answer, &items);
    answer = parse(answer, &items);
    buffer_deinit(&items);
    return answer;
}

static double number_of(const struct json *shard, const char *key)
{
    return json_number(json_get(shard, key), -1);
}

static uint32_t count_items(const struct json *list)
{
    uint32_t count = 0;
    while (json_at(list, count) != NULL) {
        count++;
    }
    return count;
}

/* Whoever leads a shard is believed, and nodes are told how many they have of all of them. */
static void test_leaders_are_believed(void **state)
{
    (void)state;
    struct overview *overview = overview_create();
    say_all(overview);
    node_overview_settle(overview);
    struct json *answer = list_shards(overview, 0, 0);
    const struct json *list = json_get(answer, "shards");
    assert_true(json_flag(json_get(answer, "well"), false));
    assert_int_equal(count_items(list), SHARD_COUNT);
    for (uint32_t i = 0; i < SHARD_COUNT; i++) {
        assert_true(number_of(json_at(list, i), "id") == i + 1);
        assert_true(number_of(json_at(list, i), "leader") == leader_of(i + 1));
        assert_null(json_get(json_at(list, i), "no_figures"));
        assert_int_equal(count_items(json_get(json_at(list, i), "replicas")), 3);
    }
    json_destroy(answer);
    for (uint32_t i = 1; i <= 3; i++) {
        const struct overview_node *node = node_overview_node(overview, i);
        assert_int_equal(node->replica_count, SHARD_COUNT);
        assert_int_equal(node->leader_count, i < 3 ? SHARD_COUNT / 2 : 0);
        assert_int_equal(node->lag_ms, 100 * (i - 1));
    }
    assert_null(node_overview_node(overview, 4));
    answer = list_shards(overview, 7, 0);
    assert_int_equal(count_items(json_get(answer, "shards")), 1);
    json_destroy(answer);
    answer = list_shards(overview, 0, 9);
    assert_int_equal(count_items(json_get(answer, "shards")), 0);
    json_destroy(answer);
    node_overview_destroy(overview);
}

/* A shard that became two after it had been told of keeps the slots that it has left, and the child is there,
 * with nothing known of it; what is told of a shard that is not in the map is left out: all slots once. */
static void test_a_shard_splits_meanwhile(void **state)
{
    (void)state;
    static const raft_node members[] = {1, 2, 3};
    struct overview *overview = overview_create();
    say_all(overview);
    struct node_survey *survey = overview->survey;
    add_led(&survey->answers[0].message, UNKNOWN, 4, members, 3);
    inquiry_answer_end(&survey->answers[0].message, SHARD_COUNT / 2 + 1);
    survey->groups[survey->group_count++] = (struct node_group){.shard = UNKNOWN, .leader = 1};
    const struct slots_range before = overview->map.ranges[slots_find(&overview->map, PARENT)];
    assert_int_equal(slots_split(&overview->map, PARENT, before.first + 3, CHILD), 0);
    node_overview_settle(overview);
    assert_int_equal(overview->shard_count, SHARD_COUNT + 1);
    for (uint32_t i = 0; i < overview->shard_count; i++) {
        const struct overview_shard *shard = &overview->shards[i];
        assert_int_equal(shard->range.first, i == 0 ? 0 : shard[-1].range.end);
        assert_int_equal(shard->replica.shard, shard->range.shard);
        assert_int_equal(shard->is_told, shard->range.shard != CHILD);
    }
    assert_int_equal(node_overview_untold(overview), CHILD);
    const struct overview_shard *child = node_overview_find(overview, CHILD);
    const struct overview_shard *parent = node_overview_find(overview, PARENT);
    assert_int_equal(parent->range.end, before.first + 3);
    assert_int_equal(parent->leader, leader_of(PARENT));
    assert_int_equal(child->range.end, before.end);
    assert_int_equal(child->leader, 0);
    assert_int_equal(child->replica.member_count, 0);
    assert_null(node_overview_find(overview, UNKNOWN));
    struct json *answer = list_shards(overview, 0, 0);
    assert_int_equal(count_items(json_get(answer, "shards")), SHARD_COUNT + 1);
    assert_false(json_flag(json_get(answer, "well"), true));
    json_destroy(answer);
    node_overview_destroy(overview);
}

/* A node that left while others were asked may still be named as a member: it is told of as one that nobody
 * hears, is no node of the list, and the node that leads in its place is believed by its term. */
static void test_a_node_leaves_meanwhile(void **state)
{
    (void)state;
    static const raft_node before[] = {1, 2, 4};
    static const raft_node after[] = {1, 2, 3};
    struct overview *overview = overview_create();
    struct node_survey *survey = overview->survey;
    add_led(&survey->answers[0].message, PARENT, 4, before, 3);
    add_led(&survey->answers[0].message, PARENT + 1, 4, before, 3);
    inquiry_answer_end(&survey->answers[0].message, 2);
    add_led(&survey->answers[1].message, PARENT + 1, 5, after, 3);
    inquiry_answer_end(&survey->answers[1].message, 1);
    node_overview_settle(overview);
    const struct overview_shard *moved = node_overview_find(overview, PARENT + 1);
    assert_int_equal(moved->leader, 2);
    assert_true(node_overview_has_replica(moved, 3));
    assert_false(node_overview_has_replica(moved, 4));
    const struct overview_node *left = node_overview_node(overview, 4);
    assert_int_equal(left->replica_count, 1);
    assert_int_equal(left->state, MEMBER_STATE_SUSPECT);
    struct json *answer = list_shards(overview, 0, 4);
    const struct json *only = json_at(json_get(answer, "shards"), 0);
    assert_int_equal(count_items(json_get(answer, "shards")), 1);
    assert_true(number_of(only, "id") == PARENT);
    assert_string_equal(json_text(json_get(json_at(json_get(only, "replicas"), 2), "state"), ""),
                        "unreachable");
    json_destroy(answer);
    answer = json_object_create();
    node_overview_nodes(overview, true, answer);
    assert_int_equal(count_items(json_get(answer, "nodes")), 3);
    json_destroy(answer);
    node_overview_destroy(overview);
}

/* A node may name any number of others as members: no more are kept than twice what a cluster may have. */
static void test_named_nodes_have_a_limit(void **state)
{
    (void)state;
    enum { MEMBER_COUNT = 8 };
    struct overview *overview = overview_create();
    struct buffer *answer = &overview->survey->answers[1].message;
    for (wal_shard shard = 1; shard <= SHARD_COUNT; shard++) {
        raft_node members[MEMBER_COUNT];
        for (uint32_t i = 0; i < MEMBER_COUNT; i++) {
            members[i] = 1000 + shard * MEMBER_COUNT + i;
        }
        add_led(answer, shard, 4, members, MEMBER_COUNT);
    }
    inquiry_answer_end(answer, SHARD_COUNT);
    node_overview_settle(overview);
    assert_int_equal(overview->node_count, 2 * NODE_PEER_COUNT_MAX);
    assert_int_equal(node_overview_node(overview, 2)->leader_count, SHARD_COUNT);
    node_overview_destroy(overview);
}

/* A node is needed where the voters that run and are whole are no majority without it; not when it is dead itself, and
 * not by a group that has it as a learner. */
static void test_who_is_needed(void **state)
{
    (void)state;
    static const struct {
        enum member_state states[3];
        bool is_damaged; /* Node 3's replica. */
        uint32_t voter_count;
        bool are_needed[3];
    } cases[] = {
        {{MEMBER_STATE_ALIVE, MEMBER_STATE_ALIVE, MEMBER_STATE_SUSPECT},
         false,
         3,
         {false, false, false}},
        {{MEMBER_STATE_ALIVE, MEMBER_STATE_ALIVE, MEMBER_STATE_DEAD},
         false,
         3,
         {true, true, false}},
        {{MEMBER_STATE_ALIVE, MEMBER_STATE_ALIVE, MEMBER_STATE_LEFT},
         false,
         3,
         {true, true, false}},
        {{MEMBER_STATE_ALIVE, MEMBER_STATE_ALIVE, MEMBER_STATE_ALIVE},
         true,
         3,
         {true, true, false}},
        {{MEMBER_STATE_ALIVE, MEMBER_STATE_ALIVE, MEMBER_STATE_ALIVE},
         false,
         2,
         {true, true, false}},
        {{MEMBER_STATE_ALIVE, MEMBER_STATE_DEAD, MEMBER_STATE_ALIVE},
         false,
         1,
         {true, false, false}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct overview *overview = overview_create();
        struct inquiry_replica replica = {
            .shard = PARENT, .is_leader = true, .term = 4, .member_count = 3};
        for (uint32_t j = 0; j < 3; j++) {
            overview->nodes[j].state = cases[i].states[j];
            bool is_damaged = j == 2 && cases[i].is_damaged;
            replica.members[j] = (struct inquiry_member){
                .node = j + 1,
                .is_voter = j < cases[i].voter_count,
                .state = is_damaged ? INQUIRY_MEMBER_DAMAGED : INQUIRY_MEMBER_OK};
        }
        inquiry_answer_add(&overview->survey->answers[0].message, &replica);
        inquiry_answer_end(&overview->survey->answers[0].message, 1);
        node_overview_settle(overview);
        for (uint32_t j = 0; j < 3; j++) {
            assert_int_equal(node_overview_needs(overview, j + 1),
                             cases[i].are_needed[j] ? PARENT : 0);
        }
        assert_int_equal(node_overview_needs(overview, 9), 0);
        node_overview_destroy(overview);
    }
}

static struct json *ask_why(const struct overview *overview, double shard)
{
    struct json *answer = json_object_create();
    struct buffer items = {0};
    node_overview_judge(overview, answer);
    node_overview_why(overview, shard, answer, &items);
    answer = parse(answer, &items);
    buffer_deinit(&items);
    return answer;
}

static const char *sentence(const struct json *answer, const char *list, size_t place)
{
    return json_text(json_at(json_get(answer, list), place), "");
}

/* What a node with a full disk leads takes no writes, and that is said before all that is less bad. */
static void test_a_full_disk_is_told_of(void **state)
{
    (void)state;
    struct overview *overview = overview_create_with(2);
    say_all(overview);
    node_overview_settle(overview);
    struct json *answer = ask_why(overview, 0);
    assert_false(json_flag(json_get(answer, "well"), true));
    assert_string_equal(
        json_text(json_get(answer, "verdict"), ""),
        "disk full: 50 of 100 shards refuse writes that need space, because the disk "
        "of node 2 is full");
    assert_int_equal(count_items(json_get(answer, "shards")), SHARD_COUNT / 2);
    const struct json *shard = json_at(json_get(answer, "shards"), 0);
    assert_string_equal(json_text(json_get(shard, "health"), ""), "read_only");
    assert_string_equal(sentence(shard, "reasons", 0),
                        "the disk of node 2, which leads it, is full: writes that need space are "
                        "refused");
    json_destroy(answer);
    node_overview_destroy(overview);

    overview = overview_create_with(2); /* It leads nothing. */
    add_led(&overview->survey->answers[0].message, 1, 4, (const raft_node[]){1, 2, 3}, 3);
    inquiry_answer_end(&overview->survey->answers[0].message, 1);
    inquiry_answer_end(&overview->survey->answers[1].message, 0);
    slots_deinit(&overview->map);
    slots_divide(&overview->map, 1);
    node_overview_settle(overview);
    answer = ask_why(overview, 0);
    assert_false(json_flag(json_get(answer, "well"), true));
    assert_string_equal(json_text(json_get(answer, "verdict"), ""),
                        "serving, but the disk of node 2 is full");
    assert_int_equal(count_items(json_get(answer, "shards")), 0);
    json_destroy(answer);
    node_overview_destroy(overview);
}

static void name_zones(struct overview *overview, const char *first, const char *second,
                       const char *third)
{
    const char *const zones[] = {first, second, third};
    for (uint32_t i = 0; i < 3; i++) {
        (void)snprintf(overview->written[i].zone, sizeof overview->written[i].zone, "%s", zones[i]);
    }
}

/* Well and not balanced: zones that have half of a shard's replicas, a node that leads less than others, one that is
 * being emptied. */
static void test_what_is_not_balanced_is_told(void **state)
{
    (void)state;
    struct overview *overview = overview_create();
    say_all(overview);
    node_overview_settle(overview);
    struct json *answer = ask_why(overview, 0);
    assert_true(json_flag(json_get(answer, "well"), false));
    assert_int_equal(count_items(json_get(answer, "balance")), 1);
    assert_string_equal(
        sentence(answer, "balance", 0),
        "node 1 leads 50 shards, node 3 leads 0: load and number count, among nodes "
        "with replicas and disks that are neither slow nor full; what can be better "
        "moves by itself");
    json_destroy(answer);

    name_zones(overview, "a", "b", "c");
    answer = ask_why(overview, PARENT);
    assert_int_equal(count_items(json_get(answer, "balance")), 0);
    json_destroy(answer);

    name_zones(overview, "a", "b", "b");
    answer = ask_why(overview, PARENT);
    assert_string_equal(
        sentence(answer, "balance", 0),
        "nodes that are up are in 2 zones, so one of them has half or more of the "
        "replicas of 1 of 100 shards (shard 10: 2 of 3 in zone b), which stand still "
        "when it fails: start nodes in other zones");
    json_destroy(answer);

    overview->written[1].state = SYSTEM_NODE_DRAINING;
    static const char *const fates[] = {
        "they go where there is room, as fast as they are copied",
        "no other node can take them: start one, or want fewer (tutti replicas)",
    };
    for (uint32_t i = 0; i < 2; i++) { /* Two nodes are left for groups of two, and of three. */
        char expected[200];
        for (uint32_t j = 0; j < overview->shard_count; j++) {
            overview->shards[j].replica.members[2].is_voter = i == 1;
        }
        answer = ask_why(overview, 0);
        (void)snprintf(expected, sizeof expected,
                       "node 2 is being emptied, and has 100 replicas still: %s", fates[i]);
        assert_string_equal(sentence(answer, "balance", 1), expected);
        json_destroy(answer);
    }
    node_overview_destroy(overview);
}

/* More nodes could have a replica each in a zone of its own. */
static void test_a_crowded_zone_is_told_of(void **state)
{
    (void)state;
    static const raft_node members[] = {1, 2};
    struct overview *overview = overview_create();
    struct node_survey *survey = overview->survey;
    overview->voters_wanted = 2;
    add_led(&survey->answers[0].message, PARENT, 4, members, 2);
    inquiry_answer_end(&survey->answers[0].message, 1);
    inquiry_answer_end(&survey->answers[1].message, 0);
    node_overview_settle(overview);
    name_zones(overview, "a", "a", "c");
    struct json *answer = ask_why(overview, PARENT);
    assert_string_equal(
        sentence(answer, "balance", 0),
        "1 of 100 shards have more replicas in one zone than need be (shard 10: 2 of "
        "2 in zone a): they move by themselves, where a disk has room");
    json_destroy(answer);
    node_overview_destroy(overview);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaders_are_believed),
        cmocka_unit_test(test_a_shard_splits_meanwhile),
        cmocka_unit_test(test_a_node_leaves_meanwhile),
        cmocka_unit_test(test_named_nodes_have_a_limit),
        cmocka_unit_test(test_who_is_needed),
        cmocka_unit_test(test_a_full_disk_is_told_of),
        cmocka_unit_test(test_what_is_not_balanced_is_told),
        cmocka_unit_test(test_a_crowded_zone_is_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
