#include "tests/unit/nvme_ep/images.h"

#include <string.h>
#include "base/assert.h"

struct images images;

static void on_done(void *ctx)
{
    ASSERT(ctx == &images);
    images.done_count++;
}

void images_hand_over(void)
{
    images.done_count = 0;
    nvme_ep_hand_over(rig.ep, on_done, &images);
}

void images_take_over(void)
{
    nvme_ep_save(rig.ep, &images.saved);
    memset((void *)rig.ep, 0x5a, sizeof(struct nvme_ep_memory));
    memset(rig.masks, 0, sizeof(rig.masks));
    sched_init(sched_core_count(), SCHED_IDLE_POLL);
    rig_ep_make();
    ASSERT(nvme_ep_restore(rig.ep, &images.saved) == STATUS_OK);
    nvme_ep_start(rig.ep);
    rig_turn(4);
}

void images_serve(void)
{
    rig_devices_start();
    nvme_ep_serve(rig.ep);
    rig_turn(6);
}

void images_next(void)
{
    images_hand_over();
    rig_turn(6);
    ASSERT(images.done_count == 1);
    images_take_over();
    images_serve();
}
