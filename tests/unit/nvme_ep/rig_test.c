#include "tests/unit/nvme_ep/rig_test.h"

#include <string.h>

int rig_setup(void **state)
{
    (void)state;
    rig_start(&(struct rig_config){.io_queue_count = 8});
    rig_enable();
    return 0;
}

int rig_teardown(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

void rig_start_pair(const struct rig_config *config, struct rig_queue *queue, uint16_t size)
{
    rig_start(config);
    rig_enable();
    rig_create_pair(queue, 1, size);
}

struct nvme_sqe rig_start_lent(struct rig_queue *queue, uint64_t *memory)
{
    rig_stop();
    rig_start_pair(&(struct rig_config){.hmb_preferred_bytes = 64 << 10,
                                        .hmb_min_bytes = 16 << 10,
                                        .hmb_user = true},
                   queue, 16);
    uint64_t list = rig_alloc(4096);
    *memory = rig_alloc(64 << 10);
    struct nvme_host_memory_desc desc = {.addr = *memory, .page_count = 16};
    struct nvme_sqe set = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .cdw10 = NVME_FEATURE_HOST_MEMORY,
                           .cdw11 = NVME_HOST_MEMORY_ENABLE,
                           .cdw12 = 16,
                           .cdw13 = (uint32_t)list,
                           .cdw14 = (uint32_t)(list >> 32),
                           .cdw15 = 1};

    memcpy(rig_ptr(list), &desc, sizeof(desc));
    assert_int_equal(rig_admin(&set, NULL), 0);
    return set;
}

uint32_t rig_pop_all(struct rig_queue *queue)
{
    struct nvme_cqe cqe;
    uint32_t count = 0;

    while (rig_pop(queue, &cqe)) {
        assert_int_equal(rig_status(&cqe), 0);
        count++;
    }
    return count;
}

void rig_read_block(struct rig_queue *queue, uint64_t slba)
{
    uint64_t data = rig_alloc(4096);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, slba, 1, data, 0);
    struct nvme_cqe cqe;

    assert_int_equal(rig_do(queue, &sqe, &cqe), 0);
    assert_memory_equal(rig_ptr(data), rig.disk_memory + slba * 512, 512);
}

void rig_revoke_last_page(void)
{
    struct pcie_ep_window window = rig.windows[0];

    window.len_bytes -= 4096;
    rig_windows_set(&window, 1, true);
}
