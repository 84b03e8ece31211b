/* SPDX-License-Identifier: Apache-2.0 */
/* list: an intrusive doubly linked list with a head. Layer: base.
 *
 * A `struct list` is the head or a member. A member is in one list at a time, or alone (pointing at
 * itself), so list_remove() is safe twice. The list owns nothing. */
#ifndef BASE_LIST_LIST_H
#define BASE_LIST_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/memory/memory.h"

struct list {
    struct list *next;
    struct list *previous;
};

/* The struct that contains a member. */
#define LIST_ITEM(member, type, field) CONTAINER_OF(member, type, field)

/* Visit members in order; the visited one may be removed. `next` is a second cursor. */
#define LIST_EACH(member, next_member, head)                                                \
    for (struct list *member = (head)->next, *next_member = member->next; member != (head); \
         member = next_member, next_member = member->next)

static inline void list_init(struct list *list)
{
    list->next = list;
    list->previous = list;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_insert_before(struct list *place, struct list *member)
{
    member->next = place;
    member->previous = place->previous;
    place->previous->next = member;
    place->previous = member;
}

static inline void list_push_back(struct list *head, struct list *member)
{
    list_insert_before(head, member);
}

static inline void list_push_front(struct list *head, struct list *member)
{
    list_insert_before(head->next, member);
}

static inline void list_remove(struct list *member)
{
    member->previous->next = member->next;
    member->next->previous = member->previous;
    list_init(member);
}

/* The first member, removed, or NULL. */
static inline struct list *list_pop_front(struct list *head)
{
    if (list_is_empty(head)) {
        return NULL;
    }
    struct list *first = head->next;
    list_remove(first);
    return first;
}

/* Move all members of `source` behind those of `target`; `source` is empty afterwards. */
static inline void list_append_all(struct list *target, struct list *source)
{
    if (list_is_empty(source)) {
        return;
    }
    source->next->previous = target->previous;
    target->previous->next = source->next;
    source->previous->next = target;
    target->previous = source->previous;
    list_init(source);
}

#endif
