/* SPDX-License-Identifier: Apache-2.0 */
#include "core/raft/raft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct raft *create(struct raft_options options)
{
    struct raft *raft = NULL;
    struct error error = {0};
    options.self = 1;
    options.configuration = (struct raft_configuration){.voter_count = 1, .voters = {1}};
    options.first_index = options.commit_index + 1;
    options.previous_term = options.last_term;
    assert_int_equal(raft_create(&raft, &options, &error), 0);
    return raft;
}

static struct raft_output step(struct raft *raft, enum raft_input_kind kind, uint64_t sequence)
{
    struct raft_output output;
    struct raft_input input = {.kind = kind, .persisted_sequence = sequence};
    assert_int_equal(raft_step(raft, &input, &output), 0);
    return output;
}

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

    output = step(raft, RAFT_INPUT_PERSISTED, 1);
    assert_int_equal(output.role, RAFT_ROLE_LEADER);
    assert_int_equal(output.persist_count, 1);
    assert_int_equal(output.persists[0].kind, RAFT_PERSIST_ENTRIES);
    assert_int_equal(output.persists[0].entry_kind, RAFT_ENTRY_EMPTY);
    assert_int_equal(output.persists[0].index, 1);
    assert_int_equal(output.commit_index, 0);
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

static void a_follower_may_not_propose(void **state)
{
    struct raft *raft = create((struct raft_options){0});
    struct raft_output output;
    struct raft_input input = {.kind = RAFT_INPUT_PROPOSE};
    assert_int_equal(raft_step(raft, &input, &output), ERROR_NOT_LEADER);
    (void)step(raft, RAFT_INPUT_TICK, 0);
    assert_int_equal(raft_step(raft, &input, &output), ERROR_NOT_LEADER);
    assert_int_equal(raft_last_index(raft), 0);
    raft_destroy(raft);
}

static void refuses_options_that_contradict_themselves(void **state)
{
    struct raft *raft = NULL;
    struct error error = {0};
    struct raft_options ahead = {.self = 1, .first_index = 1, .commit_index = 3, .last_index = 2};
    assert_int_equal(raft_create(&raft, &ahead, &error), -EINVAL);
    assert_string_equal(error.message, "the log ends at entry 2, but 3 is applied");
    struct raft_options later = {.self = 1, .first_index = 1, .last_index = 2, .last_term = 2};
    assert_int_equal(raft_create(&raft, &later, &error), -EINVAL);
    assert_null(raft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leads_after_its_vote_is_durable),
        cmocka_unit_test(commits_what_is_durable),
        cmocka_unit_test(restart_commits_the_recovered_log),
        cmocka_unit_test(a_follower_may_not_propose),
        cmocka_unit_test(refuses_options_that_contradict_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
