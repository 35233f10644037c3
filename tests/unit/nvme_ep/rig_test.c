#include "tests/unit/nvme_ep/rig_test.h"

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
