/* SPDX-License-Identifier: Apache-2.0 */
/* membership: Raft that changes its voters from {1,2,3} to {1,2,4} by joint consensus.
 *
 * Question
 *   Can elections, crashes, lost and late messages and a change of voters together elect two
 *   leaders of one term, or lose an entry that some leader called committed? And when the faults
 *   stop, does the change always come to its end? (Section numbers are those of the Raft thesis.)
 *
 * How to read it
 *   A process for each node. Each repeats one atomic action, whichever is enabled; spin tries all
 *   orders. Messages are no queues but facts that stay true once they were sent, so they may
 *   arrive late, more than once, or never:
 *     - what the leader of a term ever sent is `terms[t].sent`; a follower takes it entry by entry;
 *     - a vote is a bit in the `votes` of the candidate it is for, an acknowledgement a bit in the
 *       `acks` of the leader it is for.
 *   Term, vote and log are on the disk. A crash is a node that does nothing for a while and then,
 *   as it has forgotten that it led or campaigned, begins anew.
 *
 * What is checked
 *   M1. A term has at most one leader.
 *   M2. Two leaders never commit different entries at one index.
 *   M3. A leader holds every entry committed in an earlier term, configurations among them.
 *   M4. (-DHEAL) When the faults stop, whatever happened before, every run ends with the new
 *       configuration committed and led by one of its members.
 *
 * Mistakes to plant; each must violate a claim
 *   -DBUG_ONE_STEP      the leader goes to the new configuration without the joint one between
 *   -DBUG_VOTE_LOST     a vote is not on the disk when it is sent: a restart forgets it
 *   -DBUG_COUNTS_ITSELF a leader counts itself, though the new configuration lacks it
 *   -DBUG_USED_LATE     a configuration is used when it is committed, not when it is appended
 *   -DBUG_OLD_TERM      an entry of an earlier term is committed by counting who has it (§3.6.2;
 *                       needs -DTERM_MAX=4 -DCAMPAIGN_MAX=3)
 *   -DBUG_STUCK_JOINT   only the leader that began a change finishes it (M4)
 * and -DREACHES_NEW claims that the new configuration is never committed: must be found wrong. */

#ifdef HEAL
#define TERM_MAX 4
#define LOG_MAX 5
#endif
#ifndef TERM_MAX
#define TERM_MAX 3 /* The first has its leader when a run begins. */
#endif
#ifndef CAMPAIGN_MAX
#define CAMPAIGN_MAX 2 /* Amid faults. */
#endif
#ifndef LOG_MAX
#define LOG_MAX 3 /* Entries in a log. */
#endif

#define NODES 4
#define NOBODY 0
#define LEARNER 4 /* Not a voter before the change. */
#define REMOVED 3 /* Not a voter after it. */
#define BIT(node) (1 << (node))

/* An entry is one byte: term and kind; 0 is none. The last one in a log that is no COMMAND is the
 * configuration; without one it is OLD. */
#define OLD 0     /* Voters 1, 2, 3. */
#define COMMAND 1 /* What clients wrote, or a new leader to have something of its term. */
#define JOINT 2   /* Decisions need a majority of the old and one of the new voters. */
#define NEW 3     /* Voters 1, 2, 4. */
#define ENTRY(term, kind) ((term) << 2 | (kind))
#define KIND(entry) ((entry) & 3)
#define TERM(entry) ((entry) >> 2)

/* Sets of nodes are bits: two of {1,2,3}, two of {1,2,4}. */
#define HAS(set, bits) (((set) & (bits)) == (bits))
#define MAJORITY_OLD(set) (HAS(set, 6) || HAS(set, 10) || HAS(set, 12))
#define MAJORITY_NEW(set) (HAS(set, 6) || HAS(set, 18) || HAS(set, 20))
#define IS_QUORUM(configuration, set) \
    ((configuration == NEW || MAJORITY_OLD(set)) && (configuration == OLD || MAJORITY_NEW(set)))

#define FOLLOWER 0
#define CANDIDATE 1
#define LEADER 2

typedef Node {
    byte term;           /* On the disk. */
    byte voted;          /* On the disk: for which node in this term, or NOBODY. */
    byte log[LOG_MAX];   /* On the disk; index 1 is log[0]. */
    byte length;         /* Of the log, */
    byte last;           /* its last entry or 0, */
    byte voters;         /* its latest configuration, */
    byte voters_index;   /* and where that is. */
    byte role;
    byte votes;          /* Candidate: a bit for each node that voted for it. */
    byte acks[LOG_MAX];  /* Leader: a bit for each node that has it, until it is committed. */
    byte commit_index;   /* Leader. */
};
Node nodes[NODES + 1]; /* From 1. */
#define ME nodes[_pid]

typedef Term {
    byte leader;         /* Who was elected, or NOBODY. */
    byte sent[LOG_MAX];  /* The leader's log. */
    byte length;
};
Term terms[TERM_MAX + 1];

byte campaign_count;
byte committed[LOG_MAX];    /* For the checks: what was first committed at this index, */
byte committed_in[LOG_MAX]; /* and the earliest term whose leader committed it. */
bool is_healed;             /* The faults are over (-DHEAL). */
byte i;                     /* Scratch within an action; 0 outside. */

#ifdef BUG_USED_LATE
#define IS_USED(node, index) (index <= nodes[node].commit_index)
#else
#define IS_USED(node, index) true
#endif

/* What follows from a log, after it changed. */
inline look_at_log(node)
{
    nodes[node].length = 0;
    nodes[node].last = 0;
    nodes[node].voters = OLD;
    nodes[node].voters_index = 0;
    for (i : 1 .. LOG_MAX) {
        if
        :: nodes[node].log[i - 1] != 0 ->
            nodes[node].length = i;
            nodes[node].last = nodes[node].log[i - 1];
            if
            :: KIND(nodes[node].last) != COMMAND && IS_USED(node, i) ->
                nodes[node].voters = KIND(nodes[node].last);
                nodes[node].voters_index = i
            :: else
            fi
        :: else
        fi
    }
    i = 0
}

/* What a candidate or leader held in memory is gone. */
inline become_follower(node)
{
    nodes[node].role = FOLLOWER;
    nodes[node].votes = 0;
    nodes[node].commit_index = 0;
    for (i : 0 .. LOG_MAX - 1) {
        nodes[node].acks[i] = 0
    }
    look_at_log(node)
}

inline enter_term(new_term)
{
    if
    :: new_term > ME.term ->
        ME.term = new_term;
        ME.voted = NOBODY;
        become_follower(_pid)
    :: else
    fi
}

/* ---- elections ------------------------------------------------------------------------------- */

/* A leader or candidate that campaigns has crashed and started again, or given up. A node that its
 * latest configuration lacks may campaign all the same: it may be needed until that is committed
 * (§4.2.2). A learner may not. As long as nodes 1 and 2 are alike, 1 is the one to begin. */
#define MAY_CAMPAIGN \
    (ME.term < TERM_LIMIT && (campaign_count < CAMPAIGN_MAX || is_healed) && \
     (_pid != LEARNER || ME.voters != OLD) && \
     (_pid != 2 || nodes[1].term > 1 || terms[1].leader == 1 || is_healed) && TIME_OUT)

inline campaign()
{
    enter_term(ME.term + 1);
    campaign_count = campaign_count + !is_healed;
    ME.voted = _pid;
    ME.role = CANDIDATE;
    ME.votes = BIT(_pid);
    printf("%d campaigns in term %d\n", _pid, ME.term)
}

/* §3.6.1. Nobody asks whether the candidate or the voter is a voter in the voter's eyes. */
#define IS_UP_TO_DATE(candidate, voter) \
    (TERM(nodes[candidate].last) > TERM(nodes[voter].last) || \
     (TERM(nodes[candidate].last) == TERM(nodes[voter].last) && \
      nodes[candidate].length >= nodes[voter].length))

/* A request whose candidate has given up can be lost as well: its vote counts for nothing. */
#define HEARS_CANDIDATE(candidate) \
    (nodes[candidate].role == CANDIDATE && candidate != _pid && \
     (nodes[candidate].term > ME.term || \
      (nodes[candidate].term == ME.term && ME.voted == NOBODY && IS_UP_TO_DATE(candidate, _pid))))

inline hear_candidate(candidate)
{
    enter_term(nodes[candidate].term);
    if
    :: IS_UP_TO_DATE(candidate, _pid) ->
        ME.voted = candidate;
        nodes[candidate].votes = nodes[candidate].votes | BIT(_pid);
        printf("%d votes for %d in term %d\n", _pid, candidate, ME.term)
    :: else -> printf("%d learns term %d from candidate %d\n", _pid, ME.term, candidate)
    fi
}

/* ---- replication ----------------------------------------------------------------------------- */

#ifdef BUG_COUNTS_ITSELF
#define IS_DURABLE(node, set) \
    (IS_QUORUM(nodes[node].voters, set) || \
     (node == REMOVED && nodes[node].voters == NEW && (set & 22) != 0)) /* And one of 1, 2, 4. */
#else
#define IS_DURABLE(node, set) IS_QUORUM(nodes[node].voters, set)
#endif
#ifdef BUG_OLD_TERM
#define IS_OF_OWN_TERM(node, index) true
#else
#define IS_OF_OWN_TERM(node, index) (TERM(nodes[node].log[index - 1]) == nodes[node].term)
#endif

/* An entry of the leader's own term is committed, and with it all before, when enough of the voters
 * of its latest configuration have it (§3.6.2): from then on it must not be lost, whoever knows. */
inline look_for_commit(node)
{
    for (i : nodes[node].commit_index + 1 .. nodes[node].length) {
        if
        :: IS_OF_OWN_TERM(node, i) && IS_DURABLE(node, nodes[node].acks[i - 1]) ->
            nodes[node].commit_index = i
        :: else
        fi
    }
    for (i : 0 .. nodes[node].commit_index - 1) {
        assert(committed[i] == 0 || committed[i] == nodes[node].log[i]); /* M2. */
        committed[i] = nodes[node].log[i];
        nodes[node].acks[i] = 0; /* Nobody asks any more. */
        if
        :: committed_in[i] == 0 || committed_in[i] > nodes[node].term ->
            committed_in[i] = nodes[node].term
        :: else
        fi;
#ifdef REACHES_NEW
        assert(KIND(committed[i]) != NEW); /* reached. */
#endif
    }
    look_at_log(node)
}

inline become_leader()
{
    printf("%d leads term %d, votes %d\n", _pid, ME.term, ME.votes);
    assert(terms[ME.term].leader == NOBODY); /* M1. */
    terms[ME.term].leader = _pid;
    terms[ME.term].length = ME.length;
    for (i : 0 .. LOG_MAX - 1) {
        assert(committed_in[i] == 0 || committed_in[i] >= ME.term ||
               committed[i] == ME.log[i]); /* M3. */
        terms[ME.term].sent[i] = ME.log[i];
        ME.acks[i] = (ME.log[i] != 0 -> BIT(_pid) : 0)
    }
    i = 0;
    ME.role = LEADER;
    ME.votes = 0
}

inline append(kind)
{
    ME.log[ME.length] = ENTRY(ME.term, kind);
    ME.acks[ME.length] = BIT(_pid);
    terms[ME.term].sent[ME.length] = ENTRY(ME.term, kind);
    terms[ME.term].length++;
    look_at_log(_pid);
    printf("%d appends %d at index %d (1 is COMMAND, 2 JOINT, 3 NEW)\n", _pid, kind, ME.length);
    look_for_commit(_pid)
}

#define IS_LEADING(t) (nodes[terms[t].leader].role == LEADER && nodes[terms[t].leader].term == t)
#define IS_OF_OTHER(t) (terms[t].leader != NOBODY && terms[t].leader != _pid && ARRIVES(t))

/* The leader of term t says that it leads, or sends what follows the entries that its log and mine
 * have in common. Many entries at once are the same as one after the other. */
#define HEARS_LEADER(t) (IS_OF_OTHER(t) && (t > ME.term || (t == ME.term && ME.role == CANDIDATE)))
#define HEARS_ENTRY(t, index) \
    (IS_OF_OTHER(t) && t == ME.term && ME.role == FOLLOWER && index <= terms[t].length && \
     ME.log[index - 1] != terms[t].sent[index - 1] && \
     (index == 1 || ME.log[index - 2] == terms[t].sent[index - 2]))

inline acknowledge(t, index)
{
    for (i : nodes[terms[t].leader].commit_index .. index - 1) {
        if
        :: ME.log[i] == terms[t].sent[i] && ME.log[i] != 0 ->
            nodes[terms[t].leader].acks[i] = nodes[terms[t].leader].acks[i] | BIT(_pid)
        :: else
        fi
    }
    look_for_commit(terms[t].leader)
}

inline hear_leader(t)
{
    enter_term(t);
    become_follower(_pid);
    if
    :: IS_LEADING(t) -> acknowledge(t, LOG_MAX)
    :: else
    fi;
    printf("%d follows %d in term %d\n", _pid, terms[t].leader, t)
}

inline hear_entry(t, index)
{
    for (i : index - 1 .. LOG_MAX - 1) {
        ME.log[i] = 0 /* What differs goes, with all behind it (§3.5). */
    }
    ME.log[index - 1] = terms[t].sent[index - 1];
    look_at_log(_pid);
    printf("%d takes index %d of term %d\n", _pid, index, t);
    if
    :: IS_LEADING(t) -> acknowledge(t, index)
    :: else
    fi
}

/* ---- what a leader appends ------------------------------------------------------------------- */

#define IS_SETTLED (ME.commit_index >= ME.voters_index)
#define HAS_ROOM (ME.role == LEADER && ME.length < LOG_LIMIT && ARRIVES(ME.term))
/* The learner has the leader's log. Without that the change would be safe, but might have to wait
 * for it. */
#define HAS_CAUGHT_UP (ME.length == 0 || nodes[LEARNER].log[ME.length - 1] == ME.last)

#ifdef BUG_ONE_STEP
#define MAY_APPEND_JOINT false
#define MAY_APPEND_NEW (HAS_ROOM && ME.voters == OLD && HAS_CAUGHT_UP)
#else
#define MAY_APPEND_JOINT (HAS_ROOM && ME.voters == OLD && HAS_CAUGHT_UP)
#ifdef BUG_STUCK_JOINT
#define MAY_APPEND_NEW \
    (HAS_ROOM && ME.voters == JOINT && IS_SETTLED && TERM(ME.log[ME.voters_index - 1]) == ME.term)
#else
#define MAY_APPEND_NEW (HAS_ROOM && ME.voters == JOINT && IS_SETTLED)
#endif
#endif
/* Two commands in a row are like one. */
#define MAY_APPEND_COMMAND \
    (HAS_ROOM && (KIND(ME.last) != COMMAND || TERM(ME.last) != ME.term) && COMMAND_IS_WANTED)
/* A leader that the new configuration lacks has done its work when that is committed (§4.2.2). Amid
 * faults it is enough that it may do nothing any more. */
#define MAY_STEP_DOWN \
    (is_healed && _pid == REMOVED && ME.role == LEADER && ME.voters == NEW && IS_SETTLED)

/* ---- faults, and their end ------------------------------------------------------------------- */

/* That a leader or candidate may crash is in MAY_CAMPAIGN: until it campaigns it is just silent.
 * The crash alone matters where others wait for it, or where it takes more than the role. */
#ifdef BUG_VOTE_LOST
#define MAY_RESTART (ME.voted != NOBODY)
#elif defined(HEAL)
#define MAY_RESTART (ME.role != FOLLOWER && !is_healed)
#else
#define MAY_RESTART false
#endif

inline restart()
{
#ifdef BUG_VOTE_LOST
    ME.voted = NOBODY;
#endif
    printf("%d restarts\n", _pid);
    become_follower(_pid)
}

#ifndef HEAL
#define TERM_LIMIT TERM_MAX
#define LOG_LIMIT LOG_MAX
#define TIME_OUT true
#define COMMAND_IS_WANTED true
#define HEARS_TERM(other) false
#define ARRIVES(t) true
#else
/* The faults stop at some moment, in the first two terms and with up to two entries. From then on
 * no node crashes, messages of deposed leaders are lost, whoever meets a higher term enters it, and
 * time-outs do what they are for: without a leader, or a candidate that will be one, a node
 * campaigns that can win, if there is one. Every action brings something new, so there are no
 * endless runs, and what must come about is checked where they end. */
#define TERM_LIMIT (is_healed -> TERM_MAX : 2)
#define LOG_LIMIT (is_healed -> LOG_MAX : 2)
#define COMMAND_IS_WANTED \
    (!is_healed || (ME.voters != OLD && !IS_SETTLED && TERM(ME.last) != ME.term))
#define HEARS_TERM(other) (is_healed && nodes[other].term > ME.term)

#define HAS_LATEST_TERM(node) \
    (nodes[node].term >= nodes[1].term && nodes[node].term >= nodes[2].term && \
     nodes[node].term >= nodes[3].term && nodes[node].term >= nodes[4].term)
/* Who would vote for this node in a new term, and who has or still may in its own. */
#define WOULD_VOTE(voter, node) (voter == node || IS_UP_TO_DATE(node, voter))
#define MAY_VOTE(voter, node) \
    (WOULD_VOTE(voter, node) && (nodes[voter].term < nodes[node].term || \
                                 nodes[voter].voted == NOBODY || nodes[voter].voted == node))
#define ALL_OF(claim, node) \
    (claim(1, node) << 1 | claim(2, node) << 2 | claim(3, node) << 3 | claim(4, node) << 4)
#define CAN_WIN(node) IS_QUORUM(nodes[node].voters, (ALL_OF(WOULD_VOTE, node)))
#define WILL_WIN(node) \
    (nodes[node].role == CANDIDATE && IS_QUORUM(nodes[node].voters, (ALL_OF(MAY_VOTE, node))))
#define LEADS_OR_WILL(node) \
    (HAS_LATEST_TERM(node) && (nodes[node].role == LEADER || WILL_WIN(node)))

#define ARRIVES(t) (!is_healed || (IS_LEADING(t) && HAS_LATEST_TERM(terms[t].leader)))
#define TIME_OUT \
    (!is_healed || \
     (HAS_LATEST_TERM(_pid) && CAN_WIN(_pid) && (_pid != REMOVED || ME.voters != NEW) && \
      !LEADS_OR_WILL(1) && !LEADS_OR_WILL(2) && !LEADS_OR_WILL(3) && !LEADS_OR_WILL(4)))

#define IS_THERE(node) \
    (nodes[node].role == LEADER && HAS_LATEST_TERM(node) && nodes[node].voters == NEW && \
     nodes[node].commit_index >= nodes[node].voters_index)

proctype Heal()
{
    d_step {
        is_healed = true;
        campaign_count = 0
    }
    timeout -> assert(IS_THERE(1) || IS_THERE(2) || IS_THERE(4)); /* M4. */
}
#endif

/* ---- a node ---------------------------------------------------------------------------------- */

#define HEAR_CANDIDATE(node) :: d_step { HEARS_CANDIDATE(node) -> hear_candidate(node) }
#define HEAR_TERM(node) :: d_step { HEARS_TERM(node) -> enter_term(nodes[node].term) }
#define HEAR_ENTRY(t, index) :: d_step { HEARS_ENTRY(t, index) -> hear_entry(t, index) }
#if LOG_MAX > 4
#define HEAR_ENTRIES_BEHIND_3(t) HEAR_ENTRY(t, 4) HEAR_ENTRY(t, 5)
#elif LOG_MAX > 3
#define HEAR_ENTRIES_BEHIND_3(t) HEAR_ENTRY(t, 4)
#else
#define HEAR_ENTRIES_BEHIND_3(t)
#endif
#define HEAR_LEADER(t) \
    :: d_step { HEARS_LEADER(t) -> hear_leader(t) } \
    HEAR_ENTRY(t, 1) HEAR_ENTRY(t, 2) HEAR_ENTRY(t, 3) HEAR_ENTRIES_BEHIND_3(t)

proctype Run()
{
end:
    do
    :: d_step { MAY_CAMPAIGN -> campaign() }
    HEAR_CANDIDATE(1) HEAR_CANDIDATE(2) HEAR_CANDIDATE(3) HEAR_CANDIDATE(4)
    :: d_step { ME.role == CANDIDATE && IS_QUORUM(ME.voters, ME.votes) -> become_leader() }
    :: d_step { MAY_APPEND_COMMAND -> append(COMMAND) }
    :: d_step { MAY_APPEND_JOINT -> append(JOINT) }
    :: d_step { MAY_APPEND_NEW -> append(NEW) }
    :: d_step { MAY_STEP_DOWN -> become_follower(_pid) }
    HEAR_LEADER(1) HEAR_LEADER(2)
#if TERM_MAX > 2
    HEAR_LEADER(3)
#endif
#if TERM_MAX > 3
    HEAR_LEADER(4)
#endif
#ifdef HEAL
    HEAR_TERM(1) HEAR_TERM(2) HEAR_TERM(3) HEAR_TERM(4)
#endif
    :: d_step { MAY_RESTART -> restart() }
    od
}

/* The run begins when a leader was elected for the first time: 1, or 2 which is like it, or 3. Who
 * voted for whom in its term matters no more. */
init {
    atomic {
        if
        :: terms[1].leader = 1
        :: terms[1].leader = 3
        fi;
        nodes[terms[1].leader].role = LEADER;
        for (i : 1 .. NODES) {
            nodes[i].term = 1;
            nodes[i].voted = terms[1].leader
        }
        i = 0;
        run Run(); /* Node 1: spin numbers processes in this order. */
        run Run();
        run Run();
        run Run();
#ifdef HEAL
        run Heal()
#endif
    }
}
