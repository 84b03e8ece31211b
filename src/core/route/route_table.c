/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table of embedded items, in chains. Keys are numbers that this project gave out itself,
 * so nobody chooses them to collide. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/route/route_internal.h"

enum { BUCKET_COUNT_MIN = 64 };

static struct route_table_item **bucket_of(const struct route_table *table, uint64_t key)
{
    /* Knuth's multiplicative hash: neighbours are spread. */
    return &table->buckets[(key * 0x9e3779b97f4a7c15ull >> 32) & (table->bucket_count - 1)];
}

static void grow(struct route_table *table)
{
    struct route_table old = *table;
    table->bucket_count = old.bucket_count == 0 ? BUCKET_COUNT_MIN : old.bucket_count * 2;
    table->buckets = memory_allocate_zeroed(table->bucket_count, sizeof table->buckets[0]);
    for (uint32_t i = 0; i < old.bucket_count; i++) {
        for (struct route_table_item *item = old.buckets[i], *next; item != NULL; item = next) {
            next = item->next;
            struct route_table_item **bucket = bucket_of(table, item->key);
            item->next = *bucket;
            *bucket = item;
        }
    }
    memory_free(old.buckets);
}

void route__table_add(struct route_table *table, uint64_t key, struct route_table_item *item)
{
    if (table->item_count >= table->bucket_count) {
        grow(table);
    }
    struct route_table_item **bucket = bucket_of(table, key);
    *item = (struct route_table_item){key, *bucket};
    *bucket = item;
    table->item_count++;
}

struct route_table_item *route__table_find(const struct route_table *table, uint64_t key)
{
    if (table->item_count == 0) {
        return NULL;
    }
    struct route_table_item *item = *bucket_of(table, key);
    while (item != NULL && item->key != key) {
        item = item->next;
    }
    return item;
}

void route__table_remove(struct route_table *table, struct route_table_item *item)
{
    struct route_table_item **place = bucket_of(table, item->key);
    while (*place != item) {
        ASSERT(*place != NULL);
        place = &(*place)->next;
    }
    *place = item->next;
    item->next = NULL;
    table->item_count--;
}

void route__table_deinit(struct route_table *table)
{
    memory_free(table->buckets);
    *table = (struct route_table){0};
}
