/*
 * Console commands about functions, their queues and the drives behind the NIC.
 */
#include "app/console_priv.h"

#include "hal/clock.h"

static void stats_of_function(uint32_t index)
{
    struct nvme_ep_stats s = nvme_ep_stats(app.functions[index].ep, NVME_EP_ALL_CORES);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"commands", s.sqe_count},
        {"completions", s.cqe_count},
        {"interrupts", s.irq_count},
        {"sqe_reads", s.sqe_reads.count},
        {"sqe_read_bytes", s.sqe_reads.bytes},
        {"list_reads", s.list_reads.count},
        {"list_read_bytes", s.list_reads.bytes},
        {"cqe_writes", s.cqe_writes.count},
        {"cqe_write_bytes", s.cqe_writes.bytes},
        {"data_to_host", s.data_to_host.count},
        {"data_to_host_bytes", s.data_to_host.bytes},
        {"data_from_host", s.data_from_host.count},
        {"data_from_host_bytes", s.data_from_host.bytes},
        {"staged_bytes", s.staged_bytes},
        {"doorbell_errors", s.doorbell_error_count},
        {"bad_addresses", s.bad_address_count},
        {"pool_empty", s.pool_empty_count},
        {"cq_full", s.cq_full_count},
        {"dropped", s.dropped_count},
        {"cancels", s.cancel_count},
        {"fences", s.fence_count},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        console_say_number("fn", index, rows[i].name, rows[i].value);
    }
}

void console_stats(void)
{
    for (uint32_t i = 0; i < app.function_count; i++) {
        stats_of_function(i);
    }
    for (uint32_t i = 0; i < app.drive_count; i++) {
        if (app.drives[i] == NULL) {
            continue;
        }
        struct nvme_drv_stats s = nvme_drv_stats(app.drives[i]);
        console_say_number("drive", i, "commands", s.command_count);
        console_say_number("drive", i, "splits", s.split_count);
        console_say_number("drive", i, "staged_bytes", s.bounced_bytes);
        console_say_number("drive", i, "errors", s.error_count);
        console_say_number("drive", i, "timeouts", s.timeout_count);
        console_say_number("drive", i, "aborts", s.abort_count);
        console_say_number("drive", i, "resets", s.reset_count);
        console_say_number("drive", i, "bad_completions", s.bad_completion_count);
    }
    console_volume_stats();
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
