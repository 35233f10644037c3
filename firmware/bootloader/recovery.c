#include "bootloader/recovery.h"

#include "base/log.h"
#include "hal/clock.h"
#include "hal/console.h"

/* Somebody may look later. */
#define SAY_NS (UINT64_C(10) * NS_PER_S)

void recovery_run(const struct bootloader *bootloader)
{
    uint64_t said_ns = 0;

    (void)bootloader;
    for (;;) {
        if (said_ns == 0 || clock_now_ns() - said_ns >= SAY_NS) {
            said_ns = clock_now_ns();
            LOG_WARN("bootloader: recovery: waits for an image on this line");
        }
        (void)console_read();
    }
}
