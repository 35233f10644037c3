/*
 * One image after another around the same function: the endpoint is asked to stop, what it saves is
 * copied, its memory is spoiled, and a new one is made that restores it.
 */
#ifndef IMAGES_H
#define IMAGES_H

#include "spec/handover.h"
#include "tests/unit/nvme_ep/rig.h"

struct images {
    struct handover_function saved;
    uint32_t done_count; /* since images_hand_over() */
};

extern struct images images;

void images_hand_over(void);
/* After done: the image before is gone; what it had in its memory is noise. */
void images_take_over(void);
void images_serve(void);
/* All of it; no CMocka here: panics when it does not come to rest. */
void images_next(void);

#endif
