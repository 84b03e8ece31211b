/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket's backend; see node_control.c. */
#ifndef NODE_NODE_CONTROL_H
#define NODE_NODE_CONTROL_H

#include "gateway/control/control.h"

struct node_cluster;
struct node_control;

/* Listen on the socket in the data directory. */
MUST_USE int node_control_open(struct node_control **control, struct node_cluster *cluster,
                               struct error *error);
/* May be NULL. */
void node_control_close(struct node_control *control);

#endif
