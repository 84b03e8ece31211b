/* SPDX-License-Identifier: Apache-2.0 */
/* conductor_internal: what the files of this folder share.
 *
 *   conductor.c          life cycle; an office: when it begins, what is done in it
 *   conductor_reports.c  reports, what is known by them, and what balance waits for
 *   conductor_steps.c    steps, as the leader of a group takes them
 *   conductor_split.c    splits: those that are planned, and which should be
 *   conductor_replica.c  for hosts: what a leading replica tells
 *   conductor_message.c  all messages as bytes */
#ifndef CORE_CONDUCTOR_CONDUCTOR_INTERNAL_H
#define CORE_CONDUCTOR_CONDUCTOR_INTERNAL_H

#include "core/conductor/conductor.h"

/* What is known of a group in this office. Times are 0 for never. */
struct conductor__group {
    struct placement_group_state state; /* The newest report, with who sent it. */
    uint64_t reported_at_ms;
    uint64_t known_since_ms;   /* The first report. */
    uint64_t unknown_since_ms; /* It is of the map, and no report of it is new enough. */
    uint32_t map_number;       /* Of the newest map that had it. */
    uint64_t load_per_1000_s;  /* Smoothed. */
    uint64_t size_weight;      /* What placement is told of it: it follows the reports in steps. */
    uint64_t load_weight;
    raft_node led_before; /* Until `led_since_ms`. */
    uint64_t led_since_ms;
    raft_node asked_for; /* Who was to lead, by the last step of that kind. */
    uint64_t asked_at_ms;
    raft_node held_from; /* I4: who led before somebody else was made to. */
    uint64_t held_until_ms;
    uint32_t first_slot; /* As of the newest map. */
    uint32_t end_slot;
    uint64_t busy_since_ms; /* It takes too many requests; 0: it does not. */
    uint64_t no_split_until_ms;
    /* It, or what it was a part of, was split for this load: per 1000 s. */
    uint64_t split_load;
    uint64_t split_load_until_ms;
};

/* The one split that this conductor wants. */
enum conductor__wish_stage {
    CONDUCTOR__NO_WISH,
    CONDUCTOR__ASKED,  /* Its leader was asked where. */
    CONDUCTOR__WANTED, /* The host was told. It is over when the map has it. */
};

struct conductor__wish {
    enum conductor__wish_stage stage;
    struct conductor_question question;
    uint64_t since_ms;
};

struct conductor__node {
    struct placement_node_state state;
    uint64_t heard_at_ms; /* A report came, in this office. */
};

struct conductor {
    struct conductor_host host;
    raft_node self;
    uint64_t acted_at_ms;
    uint32_t interval_ms;
    struct buffer message;
    struct placement *placement;

    raft_node told_leader; /* Of the first shard, by the last input. */
    raft_node told_by;     /* Who has said since then that it is in office; 0: nobody has. */

    uint64_t office; /* 0: none. */
    uint64_t office_since_ms;
    /* By number: shards are numbered from SLOTS_FIRST_SHARD on, without gaps but for those that are not
     * known of yet. */
    struct conductor__group *groups;
    uint32_t group_room;
    uint32_t map_number; /* Grows with each look. */
    uint32_t map_count;  /* Groups in the map. */
    struct conductor__node *nodes;
    uint32_t node_count;
    uint32_t node_count_max;
    /* For placement. */
    struct placement_group_state *plan_groups;
    struct placement_node_state *plan_nodes;
    bool is_balance_waiting;
    struct conductor__wish wish;
    uint64_t split_size_bytes; /* As of the last look. */
    uint64_t *load_sums;       /* By node. */
    /* The last split for load: where the child begins. */
    uint32_t load_slot;
    uint64_t load_before;
};

/* ---- conductor.c --------------------------------------------------------------------------- */

struct conductor__node *conductor__find_node(struct conductor *conductor, raft_node id);

/* ---- conductor_reports.c ------------------------------------------------------------------- */

/* NULL: no number that a shard can have, or nothing was ever said of it. */
struct conductor__group *conductor__find_group(struct conductor *conductor, wal_shard id);
/* Who leads it, as far as is known; 0: nobody knows. */
raft_node conductor__leader_of(struct conductor *conductor, wal_shard id, uint64_t now_ms);
void conductor__forget_reports(struct conductor *conductor);
/* In office: say so to those from which no report came lately. */
void conductor__tell_silent(struct conductor *conductor, const struct conductor_input *input);
/* Tell whoever leads the first shard of what is led here. */
void conductor__report(struct conductor *conductor, const struct conductor_input *input);
void conductor__take_report(struct conductor *conductor, raft_node from,
                            struct conductor_message *message, uint64_t now_ms);
/* Fill `plan_groups`, in the order of ids, with the groups of the map of which something is known, and say
 * whether balance waits. Returns how many. */
uint32_t conductor__list_groups(struct conductor *conductor, const struct conductor_input *input);

/* ---- conductor_replica.c --------------------------------------------------------------------- */

/* Could the learner become a voter at once? */
bool conductor__is_caught_up(const struct raft_peer *learner, raft_index applied_index);
/* May the learner become a voter now? What was heard of it may be old. */
bool conductor__may_vote(const struct raft_peer *learner);

/* ---- conductor_steps.c --------------------------------------------------------------------- */

/* Of a group that is led here. `thought_of`: the group as the conductor knew it. */
void conductor__take_step(struct conductor *conductor, const struct placement_step *step,
                          const struct placement_group_state *thought_of);

/* ---- conductor_split.c --------------------------------------------------------------------- */

/* Have the planned ones carried out, and think of another one. */
void conductor__see_to_splits(struct conductor *conductor, const struct conductor_input *input);
/* A group of the map: if it is new, it may be the child of a split for load. */
void conductor__note_child(const struct conductor *conductor, struct conductor__group *group,
                           const struct slots_range *range, uint64_t now_ms);
void conductor__forget_wish(struct conductor *conductor);
/* An answer of somebody who leads a group, perhaps this node. */
void conductor__take_halves(struct conductor *conductor, const struct conductor_halves *halves,
                            raft_node from, uint64_t now_ms);

#endif
