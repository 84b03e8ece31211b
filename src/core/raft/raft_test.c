/* SPDX-License-Identifier: Apache-2.0 */
/* The interface call by call: one voter, options, what a log remembers, what a member ignores. What
 * members do together is in raft_group_test.c. */
#include "core/raft/raft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { START_MS = 1000, TIMEOUT_MS = RAFT_ELECTION_TIMEOUT_MS };

static const struct raft_configuration one = {.voter_count = 1, .voters = {1}};
static const struct raft_configuration three = {.voter_count = 3, .voters = {1, 2, 3}};

static struct raft *create(struct raft_options options)
{
    struct raft *raft = NULL;
    struct error error = {0};
    options.self = 1;
    if (options.configuration.voter_count == 0) {
        options.configuration = one;
    }
    if (options.first_index == 0) {
        options.first_index = options.commit_index + 1;
        options.previous_term = options.last_term;
    }
    assert_int_equal(raft_create(&raft, &options, &error), 0);
    return raft;
}

static struct raft_output give(struct raft *raft, struct raft_input input)
{
    struct raft_output output;
    assert_int_equal(raft_step(raft, &input, &output), 0);
    return output;
}

static struct raft_output step(struct raft *raft, enum raft_input_kind kind, uint64_t sequence)
{
    return give(raft, (struct raft_input){.kind = kind, .persisted_sequence = sequence});
}

static struct raft_output receive(struct raft *raft, struct raft_message message,
                                  const struct raft_entry *entries)
{
    message.to = message.to == 0 ? 1 : message.to;
    return give(raft, (struct raft_input){.kind = RAFT_INPUT_RECEIVE,
                                          .message = &message,
                                          .entries = entries,
                                          .now_ms = START_MS});
}

/* ---- One voter ------------------------------------------------------------------------------- */

/* The own vote counts only when it is durable (thesis §3.8), and the term begins with an empty
 * entry. */
static void leads_after_its_vote_is_durable(void **state)
{
    struct raft *raft = create((struct raft_options){0});
    struct raft_output output = step(raft, RAFT_INPUT_TICK, 0);
    assert_int_equal(output.role, RAFT_ROLE_CANDIDATE);
    assert_int_equal(output.persist_count, 1);
    assert_int_equal(output.persists[0].kind, RAFT_PERSIST_HARD_STATE);
    assert_int_equal(output.persists[0].hard_state.term, 1);
    assert_int_equal(output.persists[0].hard_state.vote, 1);

    output = step(raft, RAFT_INPUT_TICK, 0);
    assert_int_equal(output.persist_count, 0);
    assert_int_equal(output.role, RAFT_ROLE_CANDIDATE);
    assert_int_equal(output.wake_at_ms, UINT64_MAX);

    output = step(raft, RAFT_INPUT_PERSISTED, 1);
    assert_int_equal(output.role, RAFT_ROLE_LEADER);
    assert_int_equal(output.persist_count, 1);
    assert_int_equal(output.persists[0].kind, RAFT_PERSIST_ENTRIES);
    assert_int_equal(output.persists[0].entry_kind, RAFT_ENTRY_EMPTY);
    assert_int_equal(output.persists[0].index, 1);
    assert_int_equal(output.commit_index, 0);
    assert_int_equal(output.start_index, 1);
    assert_int_equal(output.wake_at_ms, UINT64_MAX);
    raft_destroy(raft);
}

/* An entry is committed when it is durable, not when it is proposed. */
static void commits_what_is_durable(void **state)
{
    struct raft *raft = create((struct raft_options){0});
    (void)step(raft, RAFT_INPUT_TICK, 0);
    (void)step(raft, RAFT_INPUT_PERSISTED, 1);
    assert_int_equal(step(raft, RAFT_INPUT_PROPOSE, 0).persists[0].sequence, 3);
    assert_int_equal(step(raft, RAFT_INPUT_PROPOSE, 0).persists[0].index, 3);
    assert_int_equal(step(raft, RAFT_INPUT_PERSISTED, 2).commit_index, 1);
    assert_int_equal(step(raft, RAFT_INPUT_PERSISTED, 4).commit_index, 3);
    /* A completion that comes late changes nothing. */
    assert_int_equal(step(raft, RAFT_INPUT_PERSISTED, 3).commit_index, 3);
    raft_destroy(raft);
}

/* More writes may be under way than are told apart: then some are believed later, none earlier. */
static void many_writes_are_under_way(void **state)
{
    struct raft *raft = create((struct raft_options){0});
    (void)step(raft, RAFT_INPUT_TICK, 0);
    uint64_t last = step(raft, RAFT_INPUT_PERSISTED, 1).persists[0].sequence;
    for (uint32_t i = 0; i < 500; i++) {
        last = step(raft, RAFT_INPUT_PROPOSE, 0).persists[0].sequence;
    }
    raft_index before = 0;
    for (uint64_t sequence = 2; sequence <= last; sequence++) {
        raft_index commit_index = step(raft, RAFT_INPUT_PERSISTED, sequence).commit_index;
        assert_in_range(commit_index, before, sequence - 1); /* Entry 1 is sequence 2. */
        before = commit_index;
    }
    assert_int_equal(before, 501);
    raft_destroy(raft);
}

/* A restart begins a new term and commits what the log held through the new term's first entry. */
static void restart_commits_the_recovered_log(void **state)
{
    struct raft *raft = create((struct raft_options){
        .hard_state = {.term = 4, .vote = 1}, .last_index = 9, .last_term = 4, .commit_index = 6});
    struct raft_output output = step(raft, RAFT_INPUT_TICK, 0);
    assert_int_equal(output.term, 5);
    assert_int_equal(output.commit_index, 6);
    output = step(raft, RAFT_INPUT_PERSISTED, 1);
    assert_int_equal(output.persists[0].index, 10);
    assert_int_equal(output.persists[0].term, 5);
    assert_int_equal(output.commit_index, 6);
    assert_int_equal(step(raft, RAFT_INPUT_PERSISTED, 2).commit_index, 10);
    raft_destroy(raft);
}

/* What only a leader may do is refused to others, and changes nothing. */
static void a_follower_may_not_command(void **state)
{
    static const enum raft_input_kind kinds[] = {RAFT_INPUT_PROPOSE, RAFT_INPUT_CONFIGURE,
                                                 RAFT_INPUT_TRANSFER, RAFT_INPUT_CONFIRM};
    struct raft *raft = create((struct raft_options){0});
    for (uint32_t turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            struct raft_output output;
            struct raft_input input = {.kind = kinds[i], .configuration = &three, .node = 2};
            assert_int_equal(raft_step(raft, &input, &output), ERROR_NOT_LEADER);
        }
        struct raft_peer peers[RAFT_PEER_COUNT_MAX];
        assert_int_equal(raft_get_peers(raft, peers), 0);
        assert_int_equal(raft_last_index(raft), 0);
        (void)step(raft, RAFT_INPUT_TICK, 0); /* A candidate may not either. */
    }
    raft_destroy(raft);
}

/* ---- Options --------------------------------------------------------------------------------- */

static void refuse(struct raft_options options, const char *message)
{
    struct raft *raft = NULL;
    struct error error = {0};
    options.self = 1;
    assert_int_equal(raft_create(&raft, &options, &error), -EINVAL);
    assert_string_equal(error.message, message);
    assert_null(raft);
}

static void refuses_options_that_contradict_themselves(void **state)
{
    struct raft_entry back[] = {{.term = 3}, {.term = 2}};
    struct raft_configuration nobody = {0};
    struct raft_entry empty[] = {
        {.term = 1, .kind = RAFT_ENTRY_CONFIGURATION, .configuration = &nobody}};
    refuse((struct raft_options){.first_index = 1, .commit_index = 3, .last_index = 2},
           "the log ends at entry 2, but 3 is applied");
    refuse((struct raft_options){.first_index = 1, .last_index = 2, .last_term = 2},
           "the log has an entry of term 2 after term 0");
    refuse((struct raft_options){.last_index = 2}, "the log begins at entry 0, but 0 is applied");
    refuse((struct raft_options){.first_index = 5, .last_index = 6, .commit_index = 3},
           "the log begins at entry 5, but 3 is applied");
    refuse(
        (struct raft_options){
            .first_index = 1, .last_index = 2, .entries = back, .hard_state = {.term = 3}},
        "the log has an entry of term 2 after term 3");
    refuse(
        (struct raft_options){
            .first_index = 1, .last_index = 1, .entries = empty, .hard_state = {.term = 3}},
        "the configuration in entry 1 is not valid");
    refuse((struct raft_options){.first_index = 1, .configuration_index = 1},
           "the configuration of entry 1 is not valid");
    refuse((struct raft_options){.first_index = 1,
                                 .configuration = {.voter_count = 2, .voters = {2, 1}}},
           "the configuration of entry 0 is not valid");
}

/* A snapshot can be durable before the term that it came with. */
static void a_snapshot_tells_of_a_term(void **state)
{
    struct raft *raft = create((struct raft_options){.first_index = 8,
                                                     .previous_term = 6,
                                                     .last_index = 7,
                                                     .commit_index = 7,
                                                     .hard_state = {.term = 5, .vote = 2}});
    struct raft_output output = step(raft, RAFT_INPUT_TICK, 0);
    assert_int_equal(output.term, 7);
    assert_int_equal(output.persists[0].hard_state.vote, 1);
    raft_destroy(raft);
}

/* ---- What a log remembers -------------------------------------------------------------------- */

static void remembers_terms(void **state)
{
    struct raft_entry entries[] = {{.term = 2}, {.term = 2}, {.term = 5}, {.term = 7}};
    struct raft *raft = create((struct raft_options){.first_index = 4,
                                                     .previous_term = 1,
                                                     .last_index = 7,
                                                     .entries = entries,
                                                     .commit_index = 6,
                                                     .hard_state = {.term = 7}});
    static const raft_term terms[] = {0, 0, 0, 1, 2, 2, 5, 7, 0};
    for (raft_index i = 0; i < sizeof terms / sizeof *terms; i++) {
        assert_int_equal(raft_entry_term(raft, i), terms[i]);
    }
    (void)give(raft, (struct raft_input){.kind = RAFT_INPUT_COMPACTED, .index = 5});
    assert_int_equal(raft_entry_term(raft, 4), 0);
    assert_int_equal(raft_entry_term(raft, 5), 2);
    assert_int_equal(raft_entry_term(raft, 6), 5);
    (void)give(raft, (struct raft_input){.kind = RAFT_INPUT_COMPACTED, .index = 4}); /* Done. */
    (void)give(raft, (struct raft_input){.kind = RAFT_INPUT_COMPACTED, .index = 6});
    assert_int_equal(raft_entry_term(raft, 6), 5);
    assert_int_equal(raft_entry_term(raft, 7), 7);
    assert_int_equal(raft_last_index(raft), 7);
    raft_destroy(raft);
}

/* The newest in the log counts, committed or not; which one was in force at an index is known as far
 * back as the log goes, within limits. */
static void remembers_configurations(void **state)
{
    enum { COUNT = 12 };
    struct raft_configuration configurations[COUNT];
    struct raft_entry entries[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        configurations[i] = (struct raft_configuration){.voter_count = 1, .voters = {i + 2}};
        entries[i] = (struct raft_entry){.term = 1};
        if (i % 2 == 1) {
            entries[i].kind = RAFT_ENTRY_CONFIGURATION;
            entries[i].configuration = &configurations[i];
        }
    }
    struct raft_options options = {
        .first_index = 1, .last_index = 5, .entries = entries, .hard_state = {.term = 1}};
    struct raft *raft = create(options);
    raft_index index = 99;
    assert_int_equal(raft_latest_configuration_index(raft), 4);
    assert_int_equal(raft_latest_configuration(raft)->voters[0], 5);
    assert_int_equal(raft_configuration_at(raft, 3, &index)->voters[0], 3);
    assert_int_equal(index, 2);
    assert_int_equal(raft_configuration_at(raft, 1, &index)->voters[0], 1);
    assert_int_equal(index, 0);
    raft_destroy(raft);

    struct raft_entry many[2 * COUNT];
    for (uint32_t i = 0; i < 2 * COUNT; i++) {
        many[i] = entries[i % COUNT];
    }
    options.entries = many;
    options.last_index = 2 * COUNT;
    raft = create(options);
    assert_int_equal(raft_latest_configuration_index(raft), 2 * COUNT);
    assert_null(raft_configuration_at(raft, 1, &index));
    assert_non_null(raft_configuration_at(raft, 2 * COUNT - 2, &index));
    assert_int_equal(index, 2 * COUNT - 2);
    raft_destroy(raft);
}

static struct raft_output append(struct raft *raft, raft_index index, raft_term index_term,
                                 raft_term term, raft_index commit_index)
{
    struct raft_entry entry = {.term = term};
    return receive(raft,
                   (struct raft_message){.kind = RAFT_MESSAGE_APPEND_REQUEST,
                                         .from = 2,
                                         .term = term,
                                         .index = index,
                                         .index_term = index_term,
                                         .entry_count = 1,
                                         .commit_index = commit_index},
                   &entry);
}

/* A log of more terms than there is room for forgets the oldest, when they are committed; until
 * then it takes no more, which is not acknowledged. */
static void room_for_terms_is_limited(void **state)
{
    struct raft *raft = create((struct raft_options){.first_index = 1, .configuration = three});
    raft_index index = 0;
    struct raft_output output = {0};
    while (raft_last_index(raft) == index && index < 10000) {
        output = append(raft, index, index, index + 1, 0);
        index++;
    }
    assert_in_range(index, 100, 9999);
    raft_index last_index = raft_last_index(raft);
    assert_int_equal(last_index, index - 1);
    assert_int_equal(output.send_count, 1);
    assert_false(output.sends[0].message.is_rejected);
    assert_int_equal(output.sends[0].message.index, last_index);

    output = append(raft, last_index, last_index, index + 1, last_index);
    assert_int_equal(raft_last_index(raft), last_index); /* It learns that they are committed. */
    output = append(raft, last_index, last_index, index + 2, last_index);
    assert_int_equal(raft_last_index(raft), last_index + 1);
    assert_int_equal(raft_entry_term(raft, 1), 1); /* The one before the first. */
    assert_int_equal(raft_entry_term(raft, 2), 2);
    raft_destroy(raft);

    /* One that was recovered with more has room for them. */
    enum { COUNT = 1000 };
    static struct raft_entry entries[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        entries[i].term = i + 1;
    }
    raft = create((struct raft_options){
        .first_index = 1, .last_index = COUNT, .entries = entries, .hard_state = {.term = COUNT}});
    assert_int_equal(raft_entry_term(raft, 1), 1);
    assert_int_equal(raft_entry_term(raft, COUNT), COUNT);
    raft_destroy(raft);
}

/* ---- What a member ignores ------------------------------------------------------------------- */

static void expect_nothing(struct raft *raft, struct raft_message message)
{
    struct raft_entry entries[2] = {{.term = 2}, {.term = 1}};
    struct raft_output output = receive(raft, message, entries);
    assert_int_equal(output.persist_count, 0);
    assert_int_equal(output.send_count, 0);
    assert_int_equal(output.term, 1);
    assert_int_equal(output.role, RAFT_ROLE_LEADER);
    assert_int_equal(output.commit_index, 0);
}

static struct raft *lead_with(struct raft_options options)
{
    const struct raft_configuration configuration = options.configuration;
    options.first_index = 1;
    options.now_ms = START_MS;
    struct raft *raft = create(options);
    struct raft_output output = give(
        raft, (struct raft_input){.kind = RAFT_INPUT_TICK, .now_ms = START_MS + 2 * TIMEOUT_MS});
    struct raft_message message = {.kind = RAFT_MESSAGE_PREVOTE_REPLY, .term = 1};
    for (uint32_t i = 1; i < configuration.voter_count; i++) {
        message.from = configuration.voters[i];
        (void)receive(raft, message, NULL);
    }
    (void)step(raft, RAFT_INPUT_PERSISTED, 1);
    message.kind = RAFT_MESSAGE_VOTE_REPLY;
    for (uint32_t i = 1; i < configuration.voter_count; i++) {
        message.from = configuration.voters[i];
        output = receive(raft, message, NULL);
    }
    assert_int_equal(output.role, RAFT_ROLE_LEADER);
    return raft;
}

static struct raft *lead(struct raft_configuration configuration)
{
    return lead_with((struct raft_options){.configuration = configuration});
}

static void acknowledge_all(struct raft *raft, uint64_t sequence, raft_node last)
{
    (void)step(raft, RAFT_INPUT_PERSISTED, sequence);
    for (raft_node i = 2; i <= last; i++) {
        (void)receive(raft,
                      (struct raft_message){.kind = RAFT_MESSAGE_APPEND_REPLY,
                                            .from = i,
                                            .term = 1,
                                            .index = raft_last_index(raft)},
                      NULL);
    }
}

/* A change may replace every member at once, and what is sent in one step fits. */
static void the_largest_group_is_served(void **state)
{
    struct raft_configuration largest = {.voter_count = RAFT_VOTER_COUNT_MAX,
                                         .learner_count = RAFT_LEARNER_COUNT_MAX};
    struct raft_configuration other = largest;
    for (uint32_t i = 0; i < RAFT_VOTER_COUNT_MAX; i++) {
        largest.voters[i] = i + 1;
        other.voters[i] = i + 101;
    }
    for (uint32_t i = 0; i < RAFT_LEARNER_COUNT_MAX; i++) {
        largest.learners[i] = i + 8;
        other.learners[i] = i + 108;
    }
    struct raft *raft = lead(largest);
    struct raft_output output = step(raft, RAFT_INPUT_PROPOSE, 0);
    acknowledge_all(raft, output.persists[0].sequence, 15);
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    assert_int_equal(raft_get_peers(raft, peers), 14);
    for (uint32_t i = 0; i < 1000; i++) {
        output = step(raft, RAFT_INPUT_PROPOSE, 0);
    }
    acknowledge_all(raft, output.persists[0].sequence, 15);
    struct raft_input change = {.kind = RAFT_INPUT_CONFIGURE, .configuration = &other};
    output = give(raft, change);
    assert_int_equal(output.persists[0].configuration.outgoing_count, RAFT_VOTER_COUNT_MAX);
    assert_int_equal(raft_get_peers(raft, peers), RAFT_PEER_COUNT_MAX);
    for (uint32_t i = 0; i < 1000; i++) {
        output = step(raft, RAFT_INPUT_PROPOSE, 0);
        assert_in_range(output.send_count, 0, RAFT_SEND_COUNT_MAX);
    }
    (void)give(raft, (struct raft_input){.kind = RAFT_INPUT_CONFIRM});
    output = give(raft, (struct raft_input){.kind = RAFT_INPUT_TICK, .now_ms = START_MS + 600});
    assert_in_range(output.send_count, RAFT_PEER_COUNT_MAX, RAFT_SEND_COUNT_MAX);
    raft_destroy(raft);
}

/* Stale, misdirected and impossible messages change nothing. */
static void ignores_what_says_nothing(void **state)
{
    struct raft *raft = lead(three);
    struct raft_message acknowledged = {
        .kind = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .term = 1, .index = 1};
    struct raft_message message = acknowledged;
    message.to = 3; /* For another. */
    expect_nothing(raft, message);
    message = acknowledged;
    message.from = 9; /* Of a stranger, in this term and in a newer one. */
    expect_nothing(raft, message);
    message.term = 7;
    expect_nothing(raft, message);
    message = acknowledged;
    message.from = 1; /* Of itself. */
    expect_nothing(raft, message);
    message = acknowledged;
    message.index = 100; /* Of what it has never sent. */
    expect_nothing(raft, message);
    message = acknowledged;
    message.term = 0;
    expect_nothing(raft, message);
    /* Another leader of its own term. */
    expect_nothing(
        raft, (struct raft_message){.kind = RAFT_MESSAGE_HEARTBEAT_REQUEST, .from = 2, .term = 1});
    expect_nothing(raft,
                   (struct raft_message){.kind = RAFT_MESSAGE_TIMEOUT_NOW, .from = 2, .term = 0});
    (void)give(raft, (struct raft_input){.kind = RAFT_INPUT_UNREACHABLE, .node = 9});
    (void)give(raft, (struct raft_input){.kind = RAFT_INPUT_SNAPSHOT_SENT, .node = 9});
    (void)give(raft, (struct raft_input){.kind = RAFT_INPUT_SNAPSHOT_SENT, .node = 2, .index = 1});
    raft_destroy(raft);
}

/* An append whose terms go back, or beyond the leader's own, is not a leader's. */
static void ignores_entries_that_cannot_be(void **state)
{
    struct raft *raft = create((struct raft_options){.first_index = 1, .configuration = three});
    struct raft_entry back[] = {{.term = 2}, {.term = 1}};
    struct raft_entry later[] = {{.term = 4}, {.term = 4}};
    struct raft_configuration nobody = {0};
    struct raft_entry invalid[] = {
        {.term = 1, .kind = RAFT_ENTRY_CONFIGURATION, .configuration = &nobody}, {.term = 1}};
    const struct raft_entry *all[] = {back, later, invalid};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct raft_output output = receive(raft,
                                            (struct raft_message){
                                                .kind = RAFT_MESSAGE_APPEND_REQUEST,
                                                .from = 2,
                                                .term = 3,
                                                .entry_count = 2,
                                            },
                                            all[i]);
        assert_int_equal(output.send_count, 0);
        assert_int_equal(raft_last_index(raft), 0);
    }
    raft_destroy(raft);
}

/* A snapshot that is older than what was applied would turn the state back. */
static void refuses_an_old_snapshot(void **state)
{
    struct raft *raft = create((struct raft_options){
        .hard_state = {.term = 4}, .last_index = 9, .last_term = 4, .commit_index = 6});
    struct raft_output output;
    struct raft_input input = {.kind = RAFT_INPUT_SNAPSHOT_INSTALLED,
                               .index = 5,
                               .index_term = 4,
                               .configuration = &three};
    assert_int_equal(raft_step(raft, &input, &output), -EINVAL);
    input.index = 6;
    assert_int_equal(raft_step(raft, &input, &output), 0);
    assert_int_equal(raft_last_index(raft), 9);
    assert_true(raft_configurations_are_equal(raft_latest_configuration(raft), &three));
    raft_destroy(raft);
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* Says when it wants to be called: a follower after one to two timeouts, a leader for each heartbeat,
 * a stranger never. */
static void says_when_to_wake_it(void **state)
{
    uint64_t least_ms = UINT64_MAX;
    uint64_t most_ms = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct raft *raft = create((struct raft_options){
            .first_index = 1, .configuration = three, .random_seed = seed, .now_ms = START_MS});
        struct raft_output output =
            give(raft, (struct raft_input){.kind = RAFT_INPUT_TICK, .now_ms = START_MS});
        uint64_t wait_ms = output.wake_at_ms - START_MS;
        assert_in_range(wait_ms, TIMEOUT_MS, 2 * TIMEOUT_MS);
        least_ms = wait_ms < least_ms ? wait_ms : least_ms;
        most_ms = wait_ms > most_ms ? wait_ms : most_ms;
        raft_destroy(raft);
    }
    assert_true(most_ms - least_ms > TIMEOUT_MS / 2);

    struct raft *raft = lead(three);
    struct raft_output output = give(
        raft, (struct raft_input){.kind = RAFT_INPUT_TICK, .now_ms = START_MS + 2 * TIMEOUT_MS});
    assert_in_range(output.wake_at_ms, START_MS + 2 * TIMEOUT_MS + 1,
                    START_MS + 2 * TIMEOUT_MS + RAFT_HEARTBEAT_INTERVAL_MS);
    raft_destroy(raft);

    struct raft_options stranger = {.self = 1, .first_index = 1};
    assert_int_equal(raft_create(&raft, &stranger, NULL), 0);
    output = give(raft, (struct raft_input){.kind = RAFT_INPUT_TICK, .now_ms = START_MS});
    assert_int_equal(output.wake_at_ms, UINT64_MAX);
    assert_int_equal(output.role, RAFT_ROLE_FOLLOWER);
    raft_destroy(raft);
}

/* Heartbeats leave at times of the grid: the first early, none later than an interval after the one
 * before it, however late the ticks come. */
static void heartbeats_keep_to_their_phase(void **state)
{
    enum { INTERVAL_MS = RAFT_HEARTBEAT_INTERVAL_MS, PHASE_MS = 20 };
    struct raft *raft =
        lead_with((struct raft_options){.configuration = three, .heartbeat_phase_ms = PHASE_MS});
    struct raft_output output = give(raft, (struct raft_input){.kind = RAFT_INPUT_TICK});
    uint64_t last_ms = START_MS + 2 * TIMEOUT_MS;
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(output.wake_at_ms % INTERVAL_MS, PHASE_MS);
        assert_in_range(output.wake_at_ms, last_ms + 1, last_ms + INTERVAL_MS);
        last_ms = output.wake_at_ms + i % 3; /* So much too late. */
        output = give(raft, (struct raft_input){.kind = RAFT_INPUT_TICK, .now_ms = last_ms});
        assert_true(output.send_count >= 2);
        struct raft_message reply = output.sends[0].message;
        assert_int_equal(reply.kind, RAFT_MESSAGE_HEARTBEAT_REQUEST);
        output = give(raft, (struct raft_input){.kind = RAFT_INPUT_RECEIVE,
                                                .now_ms = last_ms,
                                                .message = &(struct raft_message){
                                                    .kind = RAFT_MESSAGE_HEARTBEAT_REPLY,
                                                    .from = 2,
                                                    .to = 1,
                                                    .term = output.term,
                                                    .round = reply.round,
                                                    .sent_at_ms = reply.sent_at_ms,
                                                }});
    }
    assert_int_equal(output.role, RAFT_ROLE_LEADER);
    raft_destroy(raft);
}

/* In a hurry an idle leader falls quiet at its next heartbeat, but not when it never may, and not while
 * somebody lacks something. */
static void falls_quiet_in_a_hurry(void **state)
{
    for (uint32_t i = 0; i < 8; i++) {
        bool may_be_quiet = (i & 1) != 0;
        bool does_hurry = (i & 2) != 0;
        bool has_all = (i & 4) != 0;
        struct raft *raft = lead_with((struct raft_options){
            .configuration = three, .quiet_after_ms = may_be_quiet ? 300 : 0});
        acknowledge_all(raft, 2, has_all ? 3 : 2);
        struct raft_output output =
            give(raft, (struct raft_input){.kind = RAFT_INPUT_TICK,
                                           .does_hurry = does_hurry,
                                           .now_ms = START_MS + 2 * TIMEOUT_MS + 50});
        assert_int_equal(output.is_quiet, may_be_quiet && does_hurry && has_all);
        assert_int_equal(output.commit_index, 1);
        raft_destroy(raft);
    }
}

/* A leader that is told that others are lost asks whether a quorum is left (§6.2), before it may be quiet
 * again, however much it hurries. */
static void a_lost_quorum_is_noticed_in_a_hurry(void **state)
{
    for (raft_node lost_from = 2; lost_from <= 3; lost_from++) {
        struct raft *raft =
            lead_with((struct raft_options){.configuration = three, .quiet_after_ms = 300});
        acknowledge_all(raft, 2, 3);
        struct raft_input tick = {.kind = RAFT_INPUT_TICK, .does_hurry = true};
        tick.now_ms = START_MS + 2 * TIMEOUT_MS + 50;
        assert_true(give(raft, tick).is_quiet);
        struct raft_input lost = {.kind = RAFT_INPUT_PEER_LOST, .now_ms = tick.now_ms};
        for (lost.node = lost_from; lost.node <= 3; lost.node++) {
            (void)give(raft, lost);
        }
        struct raft_output output = {0};
        for (uint32_t i = 0; i < 2 * TIMEOUT_MS / 10; i++) {
            tick.now_ms += 10;
            output = give(raft, tick);
            for (uint32_t j = 0; lost_from == 3 && j < output.send_count; j++) {
                struct raft_message answer = output.sends[j].message;
                struct raft_input input = {
                    .kind = RAFT_INPUT_RECEIVE, .message = &answer, .now_ms = tick.now_ms};
                bool is_for_it = answer.to == 2;
                answer.kind = RAFT_MESSAGE_HEARTBEAT_REPLY;
                answer.from = 2;
                answer.to = 1;
                output = is_for_it ? give(raft, input) : output;
            }
        }
        assert_int_equal(output.role, lost_from == 3 ? RAFT_ROLE_LEADER : RAFT_ROLE_FOLLOWER);
        assert_int_equal(output.is_quiet, lost_from == 3);
        raft_destroy(raft);
    }
}

/* ---- Configurations -------------------------------------------------------------------------- */

static void configurations_are_valid_or_not(void **state)
{
    static const struct raft_configuration valid[] = {
        {.voter_count = 1, .voters = {1}},
        {.voter_count = 7, .voters = {1, 2, 3, 4, 5, 6, 7}, .learner_count = 1, .learners = {8}},
        {.voter_count = 1, .voters = {3}, .outgoing_count = 2, .outgoing = {1, 3}},
        /* A voter that becomes a learner. */
        {.voter_count = 1,
         .voters = {3},
         .outgoing_count = 2,
         .outgoing = {1, 3},
         .learner_count = 1,
         .learners = {1}},
    };
    static const struct raft_configuration invalid[] = {
        {.voter_count = 0},
        {.voter_count = 1, .voters = {0}},
        {.voter_count = 2, .voters = {2, 1}},
        {.voter_count = 2, .voters = {1, 1}},
        {.voter_count = 8},
        {.voter_count = 1, .voters = {1}, .learner_count = 1, .learners = {1}},
        {.voter_count = 1, .voters = {1}, .learner_count = 9},
        {.voter_count = 1, .voters = {1}, .outgoing_count = 1, .outgoing = {0}},
        {.voter_count = 1, .voters = {1}, .outgoing_count = 8},
    };
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        assert_true(raft_configuration_is_valid(&valid[i]));
    }
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        assert_false(raft_configuration_is_valid(&invalid[i]));
    }
    assert_true(raft_configuration_has_voter(&valid[3], 1));
    assert_true(raft_configuration_has_learner(&valid[3], 1));
    assert_false(raft_configuration_has_voter(&valid[3], 2));
    assert_false(raft_configurations_are_equal(&valid[2], &valid[3]));
}

/* The bytes are those of docs/formats/raft.md, and come back as what they were. */
static void configurations_survive_as_bytes(void **state)
{
    static const struct raft_configuration configuration = {
        .voter_count = 2,
        .voters = {3, 0x01020304},
        .outgoing_count = 1,
        .outgoing = {1},
        .learner_count = 1,
        .learners = {9},
    };
    static const uint8_t expected[] = {1, 2, 1, 1, 3, 0, 0, 0, 4, 3, 2, 1, 1, 0, 0, 0, 9, 0, 0, 0};
    struct buffer buffer = {0};
    raft_configuration_encode(&configuration, &buffer);
    assert_int_equal(buffer.size_bytes, sizeof expected);
    assert_memory_equal(buffer.data, expected, sizeof expected);
    struct raft_configuration decoded;
    assert_int_equal(raft_configuration_decode(&decoded, buffer_bytes(&buffer)), 0);
    assert_true(raft_configurations_are_equal(&decoded, &configuration));
    for (size_t size = 0; size < sizeof expected; size++) {
        assert_int_equal(raft_configuration_decode(&decoded, bytes_make(expected, size)),
                         ERROR_CORRUPT);
    }
    buffer_append_byte(&buffer, 0);
    assert_int_equal(raft_configuration_decode(&decoded, buffer_bytes(&buffer)), ERROR_CORRUPT);
    buffer.data[0] = 2;
    assert_int_equal(raft_configuration_decode(&decoded, buffer_bytes(&buffer)),
                     ERROR_NEWER_FORMAT);
    buffer.data[0] = 0;
    assert_int_equal(raft_configuration_decode(&decoded, buffer_bytes(&buffer)), ERROR_CORRUPT);
    buffer_deinit(&buffer);
    static const uint8_t unordered[] = {1, 2, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0};
    assert_int_equal(raft_configuration_decode(&decoded, bytes_make(unordered, sizeof unordered)),
                     ERROR_CORRUPT);
    static const uint8_t many[4 + 4 * 8] = {1, 8, 0, 0};
    assert_int_equal(raft_configuration_decode(&decoded, bytes_make(many, sizeof many)),
                     ERROR_CORRUPT);
}

/* A member in its first life has promised nothing to a leader: it stands for election when it is told to,
 * once, and asks again in the same term. Whoever has lived before waits as ever. */
static void a_newborn_stands_for_election_once(void **state)
{
    struct raft_options options = {.commit_index = 7,
                                   .last_index = 7,
                                   .last_term = 3,
                                   .hard_state = {.term = 3},
                                   .configuration = three};
    struct raft *raft = create(options);
    struct raft_output output = step(raft, RAFT_INPUT_CAMPAIGN, 0);
    assert_int_equal(output.role, RAFT_ROLE_FOLLOWER);
    assert_int_equal(output.persist_count + output.send_count, 0);
    raft_destroy(raft);

    options.is_newborn = true;
    raft = create(options);
    output = step(raft, RAFT_INPUT_CAMPAIGN, 0);
    assert_int_equal(output.role, RAFT_ROLE_CANDIDATE);
    assert_int_equal(output.persists[0].hard_state.term, 4);
    assert_int_equal(output.send_count, 2);
    assert_int_equal(output.sends[0].message.kind, RAFT_MESSAGE_VOTE_REQUEST);
    assert_false(output.sends[0].message.is_transfer); /* A lease of another is respected. */
    assert_int_equal(output.sends[0].after_sequence, output.persists[0].sequence);
    output = step(raft, RAFT_INPUT_CAMPAIGN, 0);
    assert_int_equal(output.persist_count, 0);
    assert_int_equal(output.send_count, 2);
    assert_int_equal(output.sends[0].message.term, 4);
    for (raft_node from = 2; from <= 3; from++) {
        output = receive(
            raft,
            (struct raft_message){
                .kind = RAFT_MESSAGE_VOTE_REPLY, .from = from, .term = 4, .is_rejected = true},
            NULL);
    }
    assert_int_equal(output.role, RAFT_ROLE_FOLLOWER);
    output = step(raft, RAFT_INPUT_CAMPAIGN, 0);
    assert_int_equal(output.role, RAFT_ROLE_FOLLOWER);
    assert_int_equal(output.send_count, 0);
    raft_destroy(raft);
}

/* It votes at once, too; others keep the promise that they may have given before they stopped (I7). */
static void a_newborn_votes_at_once(void **state)
{
    for (int is_newborn = 0; is_newborn < 2; is_newborn++) {
        struct raft *raft = create((struct raft_options){.commit_index = 7,
                                                         .last_index = 7,
                                                         .last_term = 3,
                                                         .hard_state = {.term = 3},
                                                         .configuration = three,
                                                         .is_newborn = is_newborn != 0});
        struct raft_output output =
            give(raft, (struct raft_input){.kind = RAFT_INPUT_RECEIVE,
                                           .message = &(struct raft_message){
                                               .kind = RAFT_MESSAGE_VOTE_REQUEST,
                                               .from = 2,
                                               .to = 1,
                                               .term = 4,
                                               .index = 7,
                                               .index_term = 3,
                                           }});
        assert_int_equal(output.send_count, is_newborn);
        assert_int_equal(output.persist_count, is_newborn);
        raft_destroy(raft);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leads_after_its_vote_is_durable),
        cmocka_unit_test(commits_what_is_durable),
        cmocka_unit_test(many_writes_are_under_way),
        cmocka_unit_test(restart_commits_the_recovered_log),
        cmocka_unit_test(a_follower_may_not_command),
        cmocka_unit_test(refuses_options_that_contradict_themselves),
        cmocka_unit_test(a_snapshot_tells_of_a_term),
        cmocka_unit_test(remembers_terms),
        cmocka_unit_test(remembers_configurations),
        cmocka_unit_test(room_for_terms_is_limited),
        cmocka_unit_test(the_largest_group_is_served),
        cmocka_unit_test(ignores_what_says_nothing),
        cmocka_unit_test(ignores_entries_that_cannot_be),
        cmocka_unit_test(refuses_an_old_snapshot),
        cmocka_unit_test(says_when_to_wake_it),
        cmocka_unit_test(heartbeats_keep_to_their_phase),
        cmocka_unit_test(falls_quiet_in_a_hurry),
        cmocka_unit_test(a_lost_quorum_is_noticed_in_a_hurry),
        cmocka_unit_test(configurations_are_valid_or_not),
        cmocka_unit_test(configurations_survive_as_bytes),
        cmocka_unit_test(a_newborn_stands_for_election_once),
        cmocka_unit_test(a_newborn_votes_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
