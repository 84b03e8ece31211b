/* SPDX-License-Identifier: Apache-2.0 */
/* kv_walk: what the commands that walk over many rows share (SCAN, KEYS, HSCAN, HGETALL, …).
 *
 * They may end at any row with ERROR_INCOMPLETE: they change nothing and hold nothing but the
 * iterator, and the reply is dropped then. */
#ifndef SERVICE_KV_KV_WALK_H
#define SERVICE_KV_KV_WALK_H

#include "service/kv/kv_cursor.h"
#include "service/kv/kv_internal.h"

/* ---- Answers whose number is known last ------------------------------------------------------ */

/* An answer that begins after what the reply holds already. */
struct kv__late_answer {
    size_t start_bytes;
    uint64_t count; /* The caller's, of what it appended since. */
};

struct kv__late_answer kv__late_begin(const struct kv_call *call);
/* Put `[cursor, [count items]]` (or, without a cursor, `[count items]`) around what was appended.
 * It is moved, so that nothing is held twice. */
void kv__late_end_scan(const struct kv_call *call, const struct kv__late_answer *answer,
                       uint64_t cursor);
void kv__late_end_array(const struct kv_call *call, const struct kv__late_answer *answer);

/* ---- Options of SCAN and HSCAN --------------------------------------------------------------- */

struct kv__scan_options {
    struct bytes pattern; /* Of MATCH; borrowed from the command. */
    bool has_pattern;     /* False as well when it matches everything. */
    bool has_type;
    enum kv_type type; /* KV_TYPE_NONE: of a type that we do not have, so no key matches. */
    uint64_t count;    /* Above 0. */
};

/* The arguments from `first` on. False: the error is answered. */
MUST_USE bool kv__scan_options_parse(struct kv_call *call, uint32_t first, bool allows_type,
                                     struct kv__scan_options *options);

/* "ERR invalid cursor" is answered when false. */
MUST_USE bool kv__scan_cursor_parse(struct kv_call *call, struct bytes text, uint64_t *cursor);

bool kv__scan_matches(const struct kv__scan_options *options, struct bytes name);

/* ---- Chance ---------------------------------------------------------------------------------- */

/* A number that nobody should be able to tell in advance, for RANDOMKEY and HRANDFIELD. It is made
 * of the time and of how often it was asked for, so it needs no source of randomness; it is part of
 * answers only, never of what is stored, so replicas need not agree on it. */
uint64_t kv__random(struct kv_call *call);

/* ---- Before executing ------------------------------------------------------------------------ */

/* The prefetch of a command that only reads: run it and drop the answer. */
kv__handler kv__prefetch_by_reading;

#endif
