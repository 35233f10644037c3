/*
 * A watchdog: resets the board when it runs and is not fed in time. It goes on over the jump from
 * the bootloader to the firmware; a reset of the board ends it. Core 0.
 */
#ifndef HAL_WATCHDOG_H
#define HAL_WATCHDOG_H

#include <stdint.h>
#include "base/compiler.h"
#include "base/status.h"

struct watchdog;

struct watchdog_ops {
    /* Runs from now on, also when it did already. INVALID: it cannot be so long, or is 0. */
    MUST_USE enum status (*start)(struct watchdog *watchdog, uint32_t timeout_ms);
    /* The time begins anew. */
    void (*feed)(struct watchdog *watchdog);
    void (*stop)(struct watchdog *watchdog);
};

/* A driver embeds it and fills it in. */
struct watchdog {
    const struct watchdog_ops *ops;
};

#endif
