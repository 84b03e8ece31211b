/* SPDX-License-Identifier: Apache-2.0 */
/* control, for the files of this folder only. */
#ifndef GATEWAY_CONTROL_CONTROL_INTERNAL_H
#define GATEWAY_CONTROL_CONTROL_INTERNAL_H

#include "gateway/control/control.h"

/* Give the object that a query is: "shard=7&name=a%20b". Whole numbers become numbers, true and
 * false booleans, the rest text; a name without a value is true. NULL: it is malformed, or has a name
 * twice. */
struct json *control__parse_query(struct bytes query, struct error *error);

#endif
