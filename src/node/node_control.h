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
/* The node stops: whoever waits hears it now or never. What is done is answered so, also that this node is removed,
 * when it stops for that; to the others it is said that it stops. */
void node_control_stop(struct node_control *control);
/* May be NULL. */
void node_control_close(struct node_control *control);

/* node_control_split.c: the verb `split`. Takes the call; while it waits for the split to be done, it is a
 * member of `waiting`. */
void node_control_split(struct node_cluster *cluster, struct list *waiting,
                        struct control_call *call);
/* The loop has stopped. */
void node_control_end_splits(struct list *waiting);

#endif
