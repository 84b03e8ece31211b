/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: a resolver in place of the system's. It knows one address, and every name has it. May be told so at
 * any time, by any thread. */
#ifndef DRIVER_OS_OS_TEST_RESOLVER_H
#define DRIVER_OS_OS_TEST_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>

/* Names are at 127.0.0.`last` from now on; 0: there are no such names. */
void resolver_say(uint8_t last);
/* Whoever asks waits until it is not silent any more, and hears what it says then. */
void resolver_be_silent(bool is_silent);
/* How often it was asked, and how many wait for it now. */
uint32_t resolver_asked_count(void);
uint32_t resolver_waiting_count(void);

#endif
