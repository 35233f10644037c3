/*
 * Console commands about functions, their queues and the drives behind the NIC.
 */
#include "app/console_priv.h"

#include <string.h>
#include "app/mgmt_priv.h"
#include "hal/clock.h"

/* Of functions, drives, volumes and data paths; those of ports are told by `net` and `rdma`. */
void console_stats(void)
{
    for (uint32_t i = 0; i < app_mgmt_stat_count(); i++) {
        struct mgmt_stat s = {0};
        if (app_mgmt_stat(i, &s) == 0 || strcmp(s.group, "net") == 0 ||
            strcmp(s.group, "rdma") == 0 || strcmp(s.group, "cm") == 0) {
            continue;
        }
        if (s.index == MGMT_NONE16) {
            console_say("%s.%s %llu\n", s.group, s.name, (unsigned long long)s.value);
        } else {
            console_say_number(s.group, s.index, s.name, s.value);
        }
    }
}

void console_status(void)
{
    console_say("uptime_ms %llu\n", (unsigned long long)(clock_now_ns() / NS_PER_MS));
    for (uint32_t i = 0; i < app.function_count; i++) {
        struct nvme_ep_snapshot s = nvme_ep_snapshot(app.functions[i].ep);
        console_say("fn%u.name %s\n", (unsigned)i, app.functions[i].pcie->name);
        console_say("fn%u.state %s\n", (unsigned)i, nvme_ep_state_name(s.state));
        console_say("fn%u.cc 0x%08x\nfn%u.csts 0x%08x\n", (unsigned)i, (unsigned)s.cc, (unsigned)i,
                    (unsigned)s.csts);
        console_say_number("fn", i, "submission_queues", s.sq_count);
        console_say_number("fn", i, "completion_queues", s.cq_count);
        console_say_number("fn", i, "view_generation", s.view_generation);
        for (uint32_t core = 0; core < sched_core_count(); core++) {
            console_say("fn%u.core%u.in_flight %u\n", (unsigned)i, (unsigned)core,
                        (unsigned)s.in_flight[core]);
        }
    }
    for (uint32_t i = 0; i < app.drive_count; i++) {
        if (app.drives[i] == NULL) {
            continue;
        }
        console_say("drive%u.name %s\n", (unsigned)i, nvme_drv_name(app.drives[i]));
        console_say("drive%u.state %s\n", (unsigned)i,
                    nvme_drv_state_name(nvme_drv_state(app.drives[i])));
    }
}

void console_queues(void)
{
    console_say("fn qid core  sq size head tail   cq size head tail vector held    commands\n");
    for (uint32_t i = 0; i < app.function_count; i++) {
        for (uint16_t qid = 0; qid <= LIMIT_IO_QUEUES; qid++) {
            struct nvme_ep_queue_info q = nvme_ep_queue_info(app.functions[i].ep, qid);
            if (q.sq_size == 0 && q.cq_size == 0) {
                continue;
            }
            console_say("%2u %3u %4u     %4u %4u %4u     %4u %4u %4u %6u %4u %11llu\n", (unsigned)i,
                        qid, q.core, q.sq_size, q.sq_head, q.sq_tail, q.cq_size, q.cq_head,
                        q.cq_tail, q.cq_vector, q.cq_held, (unsigned long long)q.sqe_count);
        }
    }
}
