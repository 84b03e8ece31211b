/* SPDX-License-Identifier: Apache-2.0 */
/* queue: a bounded queue of pointers from one thread to one other. Layer: base.
 *
 * Lamport's ring with cached positions (as in FastForward and folly's ProducerConsumerQueue): the
 * producer owns `tail`, the consumer owns `head`; each reads the other's with acquire and publishes
 * its own with release, so whatever the producer wrote before pushing is seen by who pops. Full is
 * an ordinary answer. The queue owns none of the items. */
#ifndef BASE_QUEUE_QUEUE_H
#define BASE_QUEUE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error/error.h"

struct queue;

/* Give a queue for `capacity` items, a power of two. Ended with queue_destroy(). */
struct queue *queue_create(uint32_t capacity);
void queue_destroy(struct queue *queue);

/* Producer only. False when full. `item` is not NULL. */
MUST_USE bool queue_push(struct queue *queue, void *item);

/* Consumer only. NULL when empty. */
void *queue_pop(struct queue *queue);

/* Any thread; exact only for the consumer seeing "not empty" and the producer seeing "empty". */
bool queue_is_empty(const struct queue *queue);

#endif
