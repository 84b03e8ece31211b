/* SPDX-License-Identifier: Apache-2.0 */
/* What gateways need no more: the window forgets it, here at once, elsewhere a moment later.
 *
 * Gateways say it to the leader, which tells the other replicas: any of them may be the next to
 * be asked, and keeps as much. What is told is true for ever (shard.h, "Forgetting"), whoever
 * says it and however late, so messages may be lost, overtake each other, or come from a leader
 * that is none any more. */
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum {
    TELL_INTERVAL_MS = 100, /* When many answers have become useless; else a delay. */
    TELL_COUNT = 64,
    TELL_DELAY_MS = 5000,
    TRIM_COUNT = 1024, /* Answers that go in a tick: some 50 µs. */
    /* Nobody waits for so long for an answer: what is still there is of gateways that have died. */
    AGE_INTERVAL_MS = 120000,
};

static void forget(struct shard *shard, const struct shard_floor *floor)
{
    if (BUG("shard.floor_of_another")) {
        shard__window_forget_others(shard->window, floor);
    }
    shard__window_set_floor(shard->window, floor);
}

void shard_set_floor(struct shard *shard, const struct shard_floor *floor)
{
    forget(shard, floor);
}

static void tell_others(struct shard *shard)
{
    struct shard_floor floors[SHARD_FLOOR_COUNT_MAX];
    uint32_t count = shard__window_take_news(shard->window, floors, SHARD_FLOOR_COUNT_MAX);
    struct buffer message = {0};
    shard__message_encode_floors(floors, count, &message);
    struct bytes piece = buffer_bytes(&message);
    struct raft_peer peers[RAFT_PEER_COUNT_MAX];
    uint32_t peer_count = shard_get_peers(shard, peers);
    struct shard_host *host = &shard->options.host;
    for (uint32_t i = 0; i < peer_count; i++) {
        if (host->knows_floors == NULL || host->knows_floors(host->context, peers[i].node)) {
            host->send(host->context, shard, peers[i].node, &piece, 1);
        }
    }
    buffer_deinit(&message);
}

static uint64_t age(struct shard *shard, uint64_t now_ms)
{
    bool is_resting = shard->window_age_at_ms == UINT64_MAX;
    if (is_resting && shard->window_rest_index == shard->applied_index) {
        return UINT64_MAX;
    }
    if (is_resting) {
        shard->window_age_at_ms = now_ms + AGE_INTERVAL_MS;
    } else if (now_ms >= shard->window_age_at_ms) {
        bool is_over = shard__window_age(shard->window);
        shard->window_age_at_ms = is_over ? UINT64_MAX : now_ms + AGE_INTERVAL_MS;
        shard->window_rest_index = shard->applied_index;
    }
    return shard->window_age_at_ms;
}

static uint64_t tell_tick(struct shard *shard, uint64_t now_ms)
{
    if (!shard_is_ready(shard) || !shard__window_has_news(shard->window)) {
        return UINT64_MAX;
    }
    uint32_t delay_ms =
        shard->options.floor_delay_ms != 0 ? shard->options.floor_delay_ms : TELL_DELAY_MS;
    bool is_much = shard__window_figures(shard->window).forgotten_count >=
                   shard->forgotten_told_count + TELL_COUNT;
    uint64_t tell_at_ms = shard->floors_told_at_ms + (is_much ? TELL_INTERVAL_MS : delay_ms);
    if (now_ms < tell_at_ms) {
        return tell_at_ms;
    }
    shard->floors_told_at_ms = now_ms;
    shard->forgotten_told_count = shard__window_figures(shard->window).forgotten_count;
    tell_others(shard);
    return UINT64_MAX;
}

uint64_t shard__floor_tick(struct shard *shard, uint64_t now_ms)
{
    uint64_t wake_at_ms = age(shard, now_ms);
    if (shard__window_trim(shard->window, TRIM_COUNT)) {
        wake_at_ms = now_ms + 1;
    }
    uint64_t tell_at_ms = tell_tick(shard, now_ms);
    return tell_at_ms < wake_at_ms ? tell_at_ms : wake_at_ms;
}

int shard__floor_receive(struct shard *shard, struct bytes message)
{
    struct shard_floor floors[SHARD_FLOOR_COUNT_MAX];
    uint32_t count = 0;
    int status = shard__message_decode_floors(message, floors, &count);
    for (uint32_t i = 0; i < count && status == 0; i++) {
        forget(shard, &floors[i]);
    }
    return status;
}
