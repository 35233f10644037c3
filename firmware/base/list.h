/*
 * Intrusive doubly linked list. Owned by one core. A node that is in no list points at itself.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include "base/compiler.h"

struct list {
    struct list *next;
    struct list *prev;
};

ALWAYS_INLINE void list_init(struct list *node)
{
    node->next = node;
    node->prev = node;
}

ALWAYS_INLINE bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

ALWAYS_INLINE void list_push_back(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

ALWAYS_INLINE void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* The first node, taken out; NULL when the list is empty. */
ALWAYS_INLINE struct list *list_pop_front(struct list *head)
{
    if (list_is_empty(head)) {
        return NULL;
    }
    struct list *node = head->next;
    list_remove(node);
    return node;
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)

/* `node` may be removed in the body. */
#define LIST_FOR_EACH(node, temp, head)                                        \
    for (struct list *node = (head)->next, *temp = node->next; node != (head); \
         node = temp, temp = node->next)

#endif
