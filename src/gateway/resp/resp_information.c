/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/resp/resp_internal.h"
RESP_HANDLER(info)
{
    reply_array(reply, 0);
    return HANDLED_DONE;
}
