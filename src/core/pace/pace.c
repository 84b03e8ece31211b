/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pace/pace.h"

#include "base/assert/assert.h"
#include "base/trace/trace.h"

bool pace_may_go_on(const struct pace *pace)
{
    return pace->in_flight_count < PACE_FREE_COUNT || pace->in_flight_count <= pace->peak_count / 2;
}

bool pace_tick(struct pace *pace, uint64_t now_ms)
{
    bool has_turned = pace->is_turning || pace->peak_count <= PACE_FREE_COUNT; /* I1 */
    if (!pace_may_go_on(pace) && now_ms >= pace_wake_at_ms(pace)) {
        PROBE("pace.impatient");
        pace->round++;
        pace->in_flight_count = 0; /* I2 */
        has_turned = true;
    }
    bool may_go_on = pace_may_go_on(pace);
    pace->is_turning = may_go_on && pace->is_closed && !has_turned;
    pace->is_closed = !may_go_on || pace->is_turning;
    if (pace->is_closed) {
        PROBE("pace.closed");
    } else {
        pace->open_at_ms = now_ms;
    }
    return !pace->is_closed;
}

uint64_t pace_wake_at_ms(const struct pace *pace)
{
    return pace->open_at_ms + PACE_PATIENCE_MS;
}

uint64_t pace_enter(struct pace *pace)
{
    pace->in_flight_count++;
    pace->peak_count = pace->in_flight_count;
    return pace->round + 1;
}

void pace_leave(struct pace *pace, uint64_t ticket)
{
    ASSERT(ticket <= pace->round + 1);
    if (ticket == pace->round + 1) {
        ASSERT(pace->in_flight_count > 0);
        pace->in_flight_count--;
    }
}
