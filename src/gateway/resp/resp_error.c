/* SPDX-License-Identifier: Apache-2.0 */
/* Replies that were errors, by their first word: WRONGTYPE, OOM, ERR, … */
#include <stdlib.h>

#include "gateway/resp/resp_internal.h"

/* The word that stands between the minus and a space; cut if it is long. */
static void read_word(struct bytes reply, char word[ERROR_WORD_SIZE_MAX])
{
    memset(word, 0, ERROR_WORD_SIZE_MAX);
    for (size_t i = 1; i < reply.size_bytes && i < ERROR_WORD_SIZE_MAX; i++) {
        if (reply.data[i] <= ' ') {
            break;
        }
        word[i - 1] = (char)reply.data[i];
    }
}

void resp__error_count(struct resp_server *server, struct bytes reply)
{
    COUNTER_ADD(server->error_count, 1);
    char word[ERROR_WORD_SIZE_MAX];
    read_word(reply, word);
    uint32_t count = COUNTER_READ(server->error_word_count);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(server->errors[i].word, word) == 0) {
            COUNTER_ADD(server->errors[i].count, 1);
            return;
        }
    }
    if (count < ERROR_WORD_COUNT_MAX) {
        memcpy(server->errors[count].word, word, sizeof word);
        COUNTER_ADD(server->errors[count].count, 1);
        atomic_store_explicit(&server->error_word_count, count + 1, memory_order_release);
    }
}

/* The sum of all is a metric, too, which must not fall. */
void resp__error_reset(struct resp_server *server)
{
    atomic_store(&server->error_count_at_reset, COUNTER_READ(server->error_count));
    uint32_t count = COUNTER_READ(server->error_word_count);
    for (uint32_t i = 0; i < count; i++) {
        atomic_store(&server->errors[i].count, 0);
    }
}

/* ---- INFO ------------------------------------------------------------------------------------ */

struct sum {
    const char *word;
    uint64_t count;
};

struct sums {
    struct sum items[ERROR_WORD_COUNT_MAX];
    uint32_t count;
};

static void add(struct sums *sums, const char *word, uint64_t count)
{
    for (uint32_t i = 0; i < sums->count; i++) {
        if (strcmp(sums->items[i].word, word) == 0) {
            sums->items[i].count += count;
            return;
        }
    }
    if (sums->count < ERROR_WORD_COUNT_MAX) {
        sums->items[sums->count++] = (struct sum){word, count};
    }
}

static int compare(const void *left, const void *right)
{
    return strcmp(((const struct sum *)left)->word, ((const struct sum *)right)->word);
}

void resp__error_append(const struct resp_group *group, struct buffer *text)
{
    struct sums sums = {0};
    for (uint32_t i = 0; i < group->server_count; i++) {
        const struct resp_server *server = group->servers[i];
        uint32_t count = atomic_load_explicit(&server->error_word_count, memory_order_acquire);
        for (uint32_t j = 0; j < count; j++) {
            add(&sums, server->errors[j].word, COUNTER_READ(server->errors[j].count));
        }
    }
    qsort(sums.items, sums.count, sizeof sums.items[0], compare);
    for (uint32_t i = 0; i < sums.count; i++) {
        if (sums.items[i].count > 0) {
            buffer_append_format(text, "errorstat_%s:count=%llu\r\n", sums.items[i].word,
                                 (unsigned long long)sums.items[i].count);
        }
    }
}
