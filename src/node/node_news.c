/* SPDX-License-Identifier: Apache-2.0 */
/* News of other nodes for the shards. Groups that are awake hear at once. Of many that are quiet only some do
 * at a time, so that thousands of them do not hold elections, or wake each other, in the same moment: whoever
 * is not told yet stays quiet, and does no harm. Of a node that is lost those hear first that it led: clients
 * wait for them. */
#include "node/node_cluster.h"

enum {
    INTERVAL_MS = 20,
    TOLD_COUNT_MAX = 32, /* In each; */
    TOLD_COUNT_MIN = 8,  /* so many also when those before are not done: they may never be. */
    /* More of them are not woken meanwhile. Those that have a new leader stay awake until gossip is sure that the
     * node is gone, for some seconds. */
    AWAKE_COUNT_MAX = 1024,
};

static void tell(struct node_shard *shard, const struct node_news_item *item)
{
    if (item->is_lost) {
        shard_peer_lost(shard->shard, item->node);
    } else {
        shard_peer_found(shard->shard, item->node);
    }
    node_shard_touch(shard);
}

/* A follower whose leader is another node has nothing to do about it. */
static bool is_of_interest(const struct node_shard *shard, const struct node_news_item *item)
{
    raft_node leader = shard_leader(shard->shard);
    bool is_orphan = leader == 0 || leader == item->node;
    return item->are_orphans_told ? leader == shard->host->self : is_orphan;
}

/* As far as it goes this time. True: all were told. */
static bool go_through(struct node_shards *shards, struct node_news_item *item, uint32_t *budget)
{
    while (*budget > 0 && item->next_place < shards->count) {
        struct node_shard *shard = &shards->items[item->next_place++];
        if (shard_is_quiet(shard->shard) && is_of_interest(shard, item)) {
            tell(shard, item);
            (*budget)--;
        }
    }
    return item->next_place >= shards->count;
}

static bool go_on(struct node_shards *shards, struct node_news_item *item, uint32_t *budget)
{
    if (!item->are_orphans_told && go_through(shards, item, budget)) {
        item->are_orphans_told = true;
        item->next_place = 0;
    }
    return item->are_orphans_told && go_through(shards, item, budget);
}

static void drop(struct node_news *news, uint32_t place)
{
    news->item_count--;
    memmove(&news->items[place], &news->items[place + 1],
            (news->item_count - place) * sizeof news->items[0]);
}

/* The newest of a kind counts. That it was lost is told all the same when it is back: what it led it
 * does not lead any more. */
static void drop_older(struct node_news *news, const struct node_news_item *newest)
{
    for (uint32_t i = news->item_count; i-- > 0;) {
        if (news->items[i].node == newest->node && news->items[i].is_lost == newest->is_lost) {
            drop(news, i);
        }
    }
}

void node_news_add(struct node_cluster *cluster, uint32_t node, bool is_lost)
{
    struct node_news *news = &cluster->news;
    struct node_shards *shards = cluster->shards;
    struct node_news_item item = {.node = node, .is_lost = is_lost, .are_orphans_told = !is_lost};
    for (uint32_t i = 0; i < shards->count; i++) {
        if (!shard_is_quiet(shards->items[i].shard)) {
            tell(&shards->items[i], &item);
        }
    }
    drop_older(news, &item);
    if (news->item_count == NODE_NEWS_COUNT_MAX) { /* All at once, rather than not. */
        uint32_t budget = UINT32_MAX;
        (void)go_on(shards, &news->items[0], &budget);
        drop(news, 0);
    }
    news->items[news->item_count++] = item;
}

static uint32_t budget_now(const struct node_shards *shards)
{
    uint32_t awake = shards->awake_count;
    uint32_t room = awake < AWAKE_COUNT_MAX ? AWAKE_COUNT_MAX - awake : 0;
    return room > TOLD_COUNT_MAX ? TOLD_COUNT_MAX : room < TOLD_COUNT_MIN ? TOLD_COUNT_MIN : room;
}

void node_news_tick(struct node_cluster *cluster, uint64_t now_ms)
{
    struct node_news *news = &cluster->news;
    uint32_t budget = budget_now(cluster->shards);
    if (news->item_count == 0 || now_ms < news->told_at_ms + INTERVAL_MS) {
        return;
    }
    news->told_at_ms = now_ms;
    while (news->item_count > 0 && budget > 0 && go_on(cluster->shards, &news->items[0], &budget)) {
        drop(news, 0);
    }
}

uint64_t node_news_wake_at_ms(const struct node_cluster *cluster)
{
    return cluster->news.item_count > 0 ? cluster->news.told_at_ms + INTERVAL_MS : UINT64_MAX;
}
