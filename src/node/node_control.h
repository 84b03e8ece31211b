/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket's backend; see node_control.c. */
#ifndef NODE_NODE_CONTROL_H
#define NODE_NODE_CONTROL_H

#include "base/list/list.h"
#include "gateway/control/control.h"

struct node_cluster;
struct node_control;

/* Listen on the socket in the data directory. */
MUST_USE int node_control_open(struct node_control **control, struct node_cluster *cluster,
                               struct error *error);
/* This node is told that it was removed, and stops: whoever asked it for that may hear it now or never. */
void node_control_removed(struct node_control *control);
/* May be NULL. */
void node_control_close(struct node_control *control);

/* node_control_split.c: the verb `split`. Takes the call; while it waits for the split to be done, it is a
 * member of `waiting`. */
void node_control_split(struct node_cluster *cluster, struct list *waiting,
                        struct control_call *call);
/* The loop has stopped. */
void node_control_end_splits(struct list *waiting);

#endif
