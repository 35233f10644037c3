/*
 * The vfio-user server against a scripted client over a socketpair, in one thread: framing, device,
 * regions, function model, reconnect; good, short, long, wrong. Nothing leaks.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "spec/nvme.h"
#include "vfu/rig.h"

#define SET_FDS (VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER)

/* --- framing, version --------------------------------------------------------------------------
 */

static void version_without_json_accepted(void **state)
{
    struct fixture *f = *state;
    struct vfu_version version;

    assert_int_equal(client_version(&f->client, NULL), 0);
    memcpy(&version, f->client.payload, sizeof(version));
    assert_int_equal(version.major, 0);
    assert_int_equal(version.minor, 1);
    assert_non_null(strstr((char *)f->client.payload + 4, "\"max_msg_fds\":16"));
    assert_int_equal(f->client.payload[f->client.payload_bytes - 1], 0);
    assert_true(f->link.host_present);
}

static void version_wrong_major_answered_and_dropped(void **state)
{
    struct fixture *f = *state;
    struct vfu_version version = {.major = 1};

    assert_int_equal(client_call(&f->client, VFU_CMD_VERSION, &version, sizeof(version), NULL, 0),
                     EINVAL);
    assert_false(client_alive(&f->client));
    assert_false(f->link.host_present);
}

static void version_bad_json_dropped(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_version(&f->client, "{\"capabilities\":{\"max_msg_fds\":\"8\"}}"),
                     EINVAL);
    assert_false(client_alive(&f->client));
}

static void version_twice_dropped(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_version(&f->client, NULL), EINVAL);
    assert_false(client_alive(&f->client));
    assert_false(f->link.host_present);
}

static void version_never_sent_dropped_at_the_deadline(void **state)
{
    struct fixture *f = *state;
    uint8_t half_a_header[8] = {0};

    assert_int_equal(vfu_server_wait_ms(&f->server), VFU_SERVER_VERSION_NS / 1000000);
    f->now_ns += VFU_SERVER_VERSION_NS - 1;
    assert_int_equal(vfu_server_wait_ms(&f->server), 1);
    client_send(&f->client, half_a_header, sizeof(half_a_header), NULL, 0); /* buys no time */
    assert_true(client_alive(&f->client));
    f->now_ns++;
    assert_int_equal(vfu_server_wait_ms(&f->server), 0);
    vfu_server_turn(&f->server);
    assert_false(client_alive(&f->client));
    assert_false(vfu_server_has_client(&f->server));
    assert_non_null(strstr(f->last_log, "version"));
    assert_int_equal(f->server.stats.dropped_count, 1);
    assert_int_equal(vfu_server_wait_ms(&f->server), -1);
}

static void version_sent_has_no_deadline_after(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vfu_server_wait_ms(&f->server), -1);
    f->now_ns += 100 * VFU_SERVER_VERSION_NS;
    assert_int_equal(client_call(&f->client, VFU_CMD_DEVICE_RESET, NULL, 0, NULL, 0), 0);
}

static void command_before_version_dropped(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_call(&f->client, VFU_CMD_DEVICE_RESET, NULL, 0, NULL, 0), EINVAL);
    assert_false(client_alive(&f->client));
}

static void header_bad_size_or_type_dropped(void **state)
{
    struct fixture *f = *state;
    static const struct vfu_header bad[] = {
        {.command = VFU_CMD_DEVICE_RESET, .msg_bytes = 15},
        {.command = VFU_CMD_DEVICE_RESET, .msg_bytes = 0},
        {.command = VFU_CMD_DEVICE_RESET, .msg_bytes = 16 + VFU_MAX_PAYLOAD + 1},
        {.command = VFU_CMD_DEVICE_RESET, .msg_bytes = UINT32_MAX},
        {.command = VFU_CMD_DEVICE_RESET, .msg_bytes = 16, .flags = VFU_FLAG_REPLY},
        {.command = VFU_CMD_DEVICE_RESET, .msg_bytes = 16, .flags = 2},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        client_send(&f->client, &bad[i], sizeof(bad[i]), NULL, 0);
        assert_false(client_alive(&f->client));
        close(f->client.fd);
        rig_adopt(f);
    }
}

static void message_in_pieces_handled_whole(void **state)
{
    struct fixture *f = *state;
    struct vfu_header header = {.id = 7, .command = VFU_CMD_DMA_MAP, .msg_bytes = 16 + 32};
    struct vfu_dma_map map = {.argsz = 32, .flags = 3, .size = 0x1000};
    uint8_t message[48];

    memcpy(message, &header, 16);
    memcpy(message + 16, &map, 32);
    client_send(&f->client, message, 1, &f->ram_fd, 1); /* the descriptor comes with the first */
    for (uint32_t i = 1; i < sizeof(message); i++) {
        assert_int_equal(f->map_count, 0);
        client_send(&f->client, message + i, 1, NULL, 0);
    }
    assert_true(client_receive(&f->client));
    assert_int_equal(f->client.header.id, 7);
    assert_int_equal(f->map_count, 1);
}

static void several_messages_in_one_piece_all_answered(void **state)
{
    struct fixture *f = *state;
    struct vfu_header headers[3];

    for (uint16_t i = 0; i < 3; i++) {
        headers[i] = (struct vfu_header){
            .id = (uint16_t)(100 + i), .command = VFU_CMD_DEVICE_RESET, .msg_bytes = 16};
    }
    client_send(&f->client, headers, sizeof(headers), NULL, 0);
    for (uint16_t i = 0; i < 3; i++) {
        assert_true(client_receive(&f->client));
        assert_int_equal(f->client.header.id, 100 + i);
        assert_int_equal(f->client.header.flags, VFU_FLAG_REPLY);
    }
}

static void no_reply_flag_answers_nothing_even_on_error(void **state)
{
    struct fixture *f = *state;
    struct vfu_header header = {
        .id = 1, .command = 99, .msg_bytes = 16, .flags = VFU_FLAG_NO_REPLY};

    client_send(&f->client, &header, sizeof(header), NULL, 0);
    assert_false(client_receive(&f->client));
    assert_true(client_alive(&f->client));
}

static void too_many_descriptors_dropped_without_leak(void **state)
{
    struct fixture *f = *state;
    int fds[40];

    for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = f->ram_fd;
    }
    assert_int_equal(client_call(&f->client, VFU_CMD_DEVICE_RESET, NULL, 0, fds, 40), -1);
    assert_false(client_alive(&f->client)); /* teardown counts descriptors */
}

static void descriptors_where_none_belong_are_closed(void **state)
{
    struct fixture *f = *state;
    int fds[2] = {f->ram_fd, f->ram_fd};
    struct vfu_dma_unmap unmap = {.argsz = sizeof(unmap), .addr = 0, .size = 0x1000};

    assert_int_equal(client_call(&f->client, VFU_CMD_DEVICE_RESET, NULL, 0, fds, 2), 0);
    /* As SPDK's client does it. */
    assert_int_equal(client_dma_map(&f->client, 0, 0x1000, 0, 3, f->ram_fd), 0);
    assert_int_equal(client_call(&f->client, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap), fds, 1), 0);
}

static void unknown_commands_not_supported(void **state)
{
    struct fixture *f = *state;
    static const uint16_t commands[] = {
        0,  14,         VFU_CMD_REGION_WRITE_MULTI, VFU_CMD_DEVICE_FEATURE, 17, 18,
        99, UINT16_MAX, VFU_CMD_DMA_READ,           VFU_CMD_DMA_WRITE};

    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        uint8_t payload[64] = {0};
        assert_int_equal(client_call(&f->client, commands[i], payload, 64, NULL, 0), ENOTSUP);
    }
}

static void short_payloads_invalid(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint16_t command;
        uint32_t bytes;
    } cases[] = {
        {VFU_CMD_DMA_MAP, 31},         {VFU_CMD_DMA_UNMAP, 23},    {VFU_CMD_DEVICE_GET_INFO, 15},
        {VFU_CMD_REGION_GET_INFO, 31}, {VFU_CMD_IRQ_GET_INFO, 15}, {VFU_CMD_IRQ_SET, 19},
        {VFU_CMD_REGION_READ, 15},     {VFU_CMD_REGION_WRITE, 15}, {VFU_CMD_REGION_GET_IO_FDS, 15},
        {VFU_CMD_DMA_MAP, 0},          {VFU_CMD_IRQ_SET, 0},       {VFU_CMD_REGION_READ, 0},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t payload[64];
        memset(payload, 0x20, sizeof(payload));
        assert_int_equal(
            client_call(&f->client, cases[i].command, payload, cases[i].bytes, NULL, 0), EINVAL);
    }
}

static void every_command_every_small_size_survives(void **state)
{
    struct fixture *f = *state;
    uint8_t payload[80];

    for (uint32_t fill = 0; fill < 3; fill++) {
        memset(payload, fill == 0 ? 0 : fill == 1 ? 0xff : 0x01, sizeof(payload));
        for (uint16_t command = 2; command < 20; command++) {
            for (uint32_t bytes = 0; bytes <= sizeof(payload); bytes++) {
                assert_int_not_equal(
                    client_call(&f->client, command, payload, bytes, &f->ram_fd, bytes % 2), -1);
            }
        }
    }
}

/* --- device, regions ---------------------------------------------------------------------------
 */

static void device_info_is_pci_with_reset(void **state)
{
    struct fixture *f = *state;
    struct vfu_device_info info = {.argsz = sizeof(info)};

    assert_int_equal(client_call(&f->client, VFU_CMD_DEVICE_GET_INFO, &info, sizeof(info), NULL, 0),
                     0);
    memcpy(&info, f->client.payload, sizeof(info));
    assert_int_equal(info.flags, VFU_DEVICE_RESETS | VFU_DEVICE_PCI);
    assert_int_equal(info.region_count, 9);
    assert_int_equal(info.irq_count, 5);
    info.argsz = 15;
    assert_int_equal(client_call(&f->client, VFU_CMD_DEVICE_GET_INFO, &info, sizeof(info), NULL, 0),
                     EINVAL);
}

static void region_info_bar0_short_then_full_has_sparse_area_and_fd(void **state)
{
    struct fixture *f = *state;
    struct vfu_region_info info = {.argsz = sizeof(info), .index = 0};
    struct vfu_region_sparse sparse;

    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_GET_INFO, &info, sizeof(info), NULL, 0),
                     0);
    assert_int_equal(f->client.payload_bytes, sizeof(info));
    assert_int_equal(f->client.reply_fd, -1);
    memcpy(&info, f->client.payload, sizeof(info));
    assert_int_equal(info.argsz, sizeof(info) + sizeof(sparse));
    assert_int_equal(info.flags, 15);
    assert_true(info.cap_offset >= 32); /* QEMU refuses less in the short answer, too */
    assert_int_equal(info.size, LINK_BAR_BYTES);

    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_GET_INFO, &info, sizeof(info), NULL, 0),
                     0);
    assert_int_equal(f->client.payload_bytes, sizeof(info) + sizeof(sparse));
    assert_true(f->client.reply_fd >= 0);
    memcpy(&sparse, f->client.payload + sizeof(info), sizeof(sparse));
    assert_int_equal(sparse.id, VFU_REGION_CAP_SPARSE_MMAP);
    assert_int_equal(sparse.area_count, 1);
    assert_int_equal(sparse.offset, 0x1000);
    assert_int_equal(sparse.size, 0x3000);
    assert_int_equal(info.offset, 0);
}

static void region_info_padded_request_accepted(void **state)
{
    struct fixture *f = *state;
    static uint8_t payload[4064]; /* as SPDK's client asks */
    struct vfu_region_info info = {.argsz = sizeof(payload), .index = 0};

    memcpy(payload, &info, sizeof(info));
    assert_int_equal(
        client_call(&f->client, VFU_CMD_REGION_GET_INFO, payload, sizeof(payload), NULL, 0), 0);
    assert_int_equal(f->client.payload_bytes, 64);
}

static void region_info_others_empty_or_config(void **state)
{
    struct fixture *f = *state;

    for (uint32_t index = 1; index < 9; index++) {
        struct vfu_region_info info = {.argsz = 64, .index = index};
        assert_int_equal(
            client_call(&f->client, VFU_CMD_REGION_GET_INFO, &info, sizeof(info), NULL, 0), 0);
        memcpy(&info, f->client.payload, sizeof(info));
        assert_int_equal(info.size, index == 7 ? 4096 : 0);
        assert_int_equal(info.flags, index == 7 ? 3 : 0);
    }
    struct vfu_region_info info = {.argsz = 64, .index = 9};
    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_GET_INFO, &info, sizeof(info), NULL, 0),
                     EINVAL);
}

static void region_info_trapped_has_nothing_to_map(void **state)
{
    struct fixture *f = *state;
    struct vfu_region_info info = {.argsz = 64, .index = 0};

    f->server.config.doorbell_fd = -1;
    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_GET_INFO, &info, sizeof(info), NULL, 0),
                     0);
    memcpy(&info, f->client.payload, sizeof(info));
    assert_int_equal(info.flags, 3);
    assert_int_equal(info.argsz, 32);
    assert_int_equal(f->client.reply_fd, -1);
}

static void io_fds_are_none(void **state)
{
    struct fixture *f = *state;
    struct vfu_io_fds fds = {.argsz = 100, .count = 3};

    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_GET_IO_FDS, &fds, sizeof(fds), NULL, 0),
                     0);
    memcpy(&fds, f->client.payload, sizeof(fds));
    assert_int_equal(fds.count, 0);
}

static void region_access_bounds(void **state)
{
    struct fixture *f = *state;
    static uint8_t page[4096];
    static const struct {
        uint32_t region;
        uint64_t offset;
        uint32_t count;
        int result;
    } cases[] = {
        {7, 0, 4096, 0},
        {7, 1, 4096, EINVAL},
        {7, 4096, 1, EINVAL},
        {7, 0, 0, EINVAL},
        {7, UINT64_MAX, 4, EINVAL},
        {7, 4, UINT32_MAX, EINVAL},
        {1, 0, 4, EINVAL},
        {9, 0, 4, EINVAL},
        {UINT32_MAX, 0, 4, EINVAL},
        {0, 0x7ffc, 4, 0},
        {0, 0x7ffc, 8, EINVAL},
        {0, 0x8000, 1, EINVAL},
        {0, 0x3ffc, 8, 0},
        {0, 0, 4096, 0},
        {0, 0x4400, 64, 0},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(
            client_region_read(&f->client, cases[i].region, cases[i].offset, page, cases[i].count),
            cases[i].result);
    }
}

static void region_read_whole_bar_in_one_message(void **state)
{
    struct fixture *f = *state;
    static uint8_t bar[LINK_BAR_BYTES];

    assert_int_equal(client_region_read(&f->client, 0, 0, bar, sizeof(bar)), 0);
    assert_int_equal(bar[NVME_REG_VS + 2], 1);
}

static void region_write_count_must_match_payload(void **state)
{
    struct fixture *f = *state;
    uint8_t payload[16 + 8] = {0};
    struct vfu_region_access access = {.offset = NVME_REG_CC, .region = 0, .count = 4};

    memcpy(payload, &access, sizeof(access));
    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_WRITE, payload, 16 + 3, NULL, 0),
                     EINVAL);
    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_WRITE, payload, 16 + 5, NULL, 0),
                     EINVAL);
    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_WRITE, payload, 16 + 4, NULL, 0), 0);
    assert_int_equal(f->client.payload_bytes, 16); /* QEMU's buffer is no longer than the request */
}

static void region_write_posted_takes_effect(void **state)
{
    struct fixture *f = *state;
    uint8_t message[16 + 16 + 4] = {0};
    struct vfu_header header = {
        .command = VFU_CMD_REGION_WRITE, .msg_bytes = sizeof(message), .flags = VFU_FLAG_NO_REPLY};
    struct vfu_region_access access = {.offset = NVME_REG_AQA, .region = 0, .count = 4};

    memcpy(message, &header, 16);
    memcpy(message + 16, &access, 16);
    message[32] = 31;
    client_send(&f->client, message, sizeof(message), NULL, 0);
    assert_false(client_receive(&f->client));
    assert_int_equal(client_read32(&f->client, 0, NVME_REG_AQA), 31);
}

static void msix_table_is_memory_and_pba_reads_zero(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_write32(&f->client, 0, LINK_MSIX_TABLE_OFFSET + 16, 0xfee00000), 0);
    assert_int_equal(client_read32(&f->client, 0, LINK_MSIX_TABLE_OFFSET + 16), 0xfee00000);
    assert_int_equal(client_write32(&f->client, 0, LINK_MSIX_PBA_OFFSET, UINT32_MAX), 0);
    assert_int_equal(client_read32(&f->client, 0, LINK_MSIX_PBA_OFFSET), 0);
    assert_int_equal(client_write32(&f->client, 0, LINK_MSIX_TABLE_OFFSET + 65 * 16, 1), 0);
    assert_int_equal(client_read32(&f->client, 0, LINK_MSIX_TABLE_OFFSET + 65 * 16), 0);
}

/* --- function model ----------------------------------------------------------------------------
 */

static void config_header_says_nvme_with_capabilities(void **state)
{
    struct fixture *f = *state;
    uint8_t c[256];

    assert_int_equal(client_region_read(&f->client, 7, 0, c, sizeof(c)), 0);
    assert_int_equal(c[9] | c[10] << 8 | c[11] << 16, 0x010802);
    assert_int_equal(c[0] | c[1] << 8, LINK_PCI_VENDOR_ID);
    assert_int_equal(c[0x3d], 0); /* no interrupt pin */
    uint8_t ids[8];
    uint32_t count = 0;
    for (uint8_t at = c[0x34]; at != 0 && count < 8; at = c[at + 1]) {
        ids[count++] = c[at];
    }
    assert_int_equal(count, 3);
    assert_int_equal(ids[0], 0x01);
    assert_int_equal(ids[1], 0x11);
    assert_int_equal(ids[2], 0x10);
    assert_int_equal(c[0x52] | (c[0x53] & 7) << 8, 64); /* 65 vectors */
    assert_int_equal(client_read32(&f->client, 7, 0x54), LINK_MSIX_TABLE_OFFSET);
    assert_int_equal(client_read32(&f->client, 7, 0x58), LINK_MSIX_PBA_OFFSET);
    assert_true((client_read32(&f->client, 7, 0x64) & BIT32(28)) != 0); /* FLR */
    assert_int_equal(client_read32(&f->client, 7, 0x100), 0);           /* no extended capability */
}

static void config_bar_sizing(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_write32(&f->client, 7, 0x10, UINT32_MAX), 0);
    assert_int_equal(client_write32(&f->client, 7, 0x14, UINT32_MAX), 0);
    assert_int_equal(client_read32(&f->client, 7, 0x10), ~(LINK_BAR_BYTES - 1) | 4);
    assert_int_equal(client_read32(&f->client, 7, 0x14), UINT32_MAX);
    assert_int_equal(client_write32(&f->client, 7, 0x18, UINT32_MAX), 0);
    assert_int_equal(client_read32(&f->client, 7, 0x18), 0);
    assert_int_equal(client_write32(&f->client, 7, 0x30, UINT32_MAX), 0);
    assert_int_equal(client_read32(&f->client, 7, 0x30), 0); /* no ROM */
}

static void config_read_only_fields_stay(void **state)
{
    struct fixture *f = *state;
    uint8_t before[4096];
    uint8_t ones[4096];

    assert_int_equal(client_region_read(&f->client, 7, 0, before, sizeof(before)), 0);
    memset(ones, 0xff, sizeof(ones));
    ones[0x69] = 0x7f; /* not FLR */
    assert_int_equal(client_region_write(&f->client, 7, 0, ones, sizeof(ones)), 0);
    uint8_t after[4096];
    assert_int_equal(client_region_read(&f->client, 7, 0, after, sizeof(after)), 0);
    assert_memory_equal(before, after, 4);
    assert_int_equal(after[4] | after[5] << 8, 0x0546);
    assert_int_equal(after[6] | after[7] << 8, 0x0010);
    assert_memory_equal(before + 8, after + 8, 4);
    assert_int_equal(after[0x52], 64);
    assert_int_equal(after[0x53], 0xc0);
    assert_memory_equal(before + 0x100, after + 0x100, 0xf00);
}

static void config_command_gates_bus_mastering(void **state)
{
    struct fixture *f = *state;
    uint8_t byte = 6;

    assert_false(f->link.bus_master);
    assert_int_equal(client_region_write(&f->client, 7, 4, &byte, 1), 0);
    assert_true(f->link.bus_master);
    byte = 3; /* D3hot */
    assert_int_equal(client_region_write(&f->client, 7, 0x44, &byte, 1), 0);
    assert_false(f->link.bus_master);
    byte = 0;
    assert_int_equal(client_region_write(&f->client, 7, 0x44, &byte, 1), 0);
    assert_true(f->link.bus_master);
    byte = 2;
    assert_int_equal(client_region_write(&f->client, 7, 4, &byte, 1), 0);
    assert_false(f->link.bus_master);
}

static void config_flr_resets_function_keeps_windows(void **state)
{
    struct fixture *f = *state;
    uint16_t control = 0x8000;

    assert_int_equal(client_dma_map(&f->client, 0, 0x1000, 0, 3, f->ram_fd), 0);
    assert_int_equal(client_write32(&f->client, 7, 4, 6), 0);
    assert_int_equal(client_write32(&f->client, 0, NVME_REG_CC, NVME_CC_EN), 0);
    assert_int_equal(client_region_write(&f->client, 7, 0x68, &control, 2), 0);
    assert_int_equal(client_read32(&f->client, 7, 4) & 0xffff, 0);
    assert_int_equal(client_read32(&f->client, 0, NVME_REG_CC), 0);
    assert_false(f->link.bus_master);
    assert_int_equal(f->server.dma.count, 1);
    assert_int_equal(client_read32(&f->client, 7, 0x68) & 0x8000, 0);
}

static void device_reset_resets_function(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_write32(&f->client, 0, NVME_REG_AQA, 0x001f001f), 0);
    assert_int_equal(client_call(&f->client, VFU_CMD_DEVICE_RESET, NULL, 0, NULL, 0), 0);
    assert_int_equal(f->client.payload_bytes, 0);
    assert_int_equal(client_read32(&f->client, 0, NVME_REG_AQA), 0);
}

/* --- reconnect ---------------------------------------------------------------------------------
 */

static void disconnect_forgets_everything_and_next_is_served(void **state)
{
    struct fixture *f = *state;
    int fd = eventfd(0, EFD_CLOEXEC);

    assert_int_equal(client_dma_map(&f->client, 0, 0x1000, 0, 3, f->ram_fd), 0);
    assert_int_equal(client_irq_set(&f->client, SET_FDS, VFU_IRQ_MSIX, 0, 1, &fd, 1), 0);
    assert_int_equal(client_write32(&f->client, 7, 4, 6), 0);
    assert_int_equal(client_write32(&f->client, 0, NVME_REG_CC, NVME_CC_EN), 0);
    close(f->client.fd);
    rig_serve(f);
    assert_false(vfu_server_has_client(&f->server));
    assert_false(f->link.host_present);
    assert_int_equal(f->unmap_count, 1);
    assert_int_equal(f->vector_fd[0], -1);

    rig_adopt(f);
    assert_int_equal(client_version(&f->client, NULL), 0);
    assert_int_equal(client_read32(&f->client, 7, 4) & 0xffff, 0);
    assert_int_equal(client_read32(&f->client, 0, NVME_REG_CC), 0);
    close(fd);
}

static void listen_replaces_dead_socket_not_a_served_one(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/snic-listen-XXXXXX";

    assert_non_null(mkdtemp(path));
    char name[64];
    snprintf(name, sizeof(name), "%s/cntrl", path);
    int first = vfu_server_listen(name);
    assert_true(first >= 0);
    assert_int_equal(vfu_server_listen(name), -EADDRINUSE);
    close(first);
    int second = vfu_server_listen(name);
    assert_true(second >= 0);
    close(second);
    unlink(name);
    FILE *file = fopen(name, "w");
    fclose(file);
    assert_int_equal(vfu_server_listen(name), -EADDRINUSE); /* not ours to remove */
    unlink(name);
    rmdir(path);
    char long_name[300];
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = 0;
    assert_int_equal(vfu_server_listen(long_name), -ENAMETOOLONG);
    assert_true(client_alive(&f->client));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define S(name) cmocka_unit_test_setup_teardown(name, rig_setup_silent, rig_teardown)
    const struct CMUnitTest tests[] = {
        S(version_without_json_accepted),
        S(version_wrong_major_answered_and_dropped),
        S(version_bad_json_dropped),
        T(version_twice_dropped),
        S(version_never_sent_dropped_at_the_deadline),
        T(version_sent_has_no_deadline_after),
        S(command_before_version_dropped),
        T(header_bad_size_or_type_dropped),
        T(message_in_pieces_handled_whole),
        T(several_messages_in_one_piece_all_answered),
        T(no_reply_flag_answers_nothing_even_on_error),
        T(too_many_descriptors_dropped_without_leak),
        T(descriptors_where_none_belong_are_closed),
        T(unknown_commands_not_supported),
        T(short_payloads_invalid),
        T(every_command_every_small_size_survives),
        T(device_info_is_pci_with_reset),
        T(region_info_bar0_short_then_full_has_sparse_area_and_fd),
        T(region_info_padded_request_accepted),
        T(region_info_others_empty_or_config),
        T(region_info_trapped_has_nothing_to_map),
        T(io_fds_are_none),
        T(region_access_bounds),
        T(region_read_whole_bar_in_one_message),
        T(region_write_count_must_match_payload),
        T(region_write_posted_takes_effect),
        T(msix_table_is_memory_and_pba_reads_zero),
        T(config_header_says_nvme_with_capabilities),
        T(config_bar_sizing),
        T(config_read_only_fields_stay),
        T(config_command_gates_bus_mastering),
        T(config_flr_resets_function_keeps_windows),
        T(device_reset_resets_function),
        T(disconnect_forgets_everything_and_next_is_served),
        T(listen_replaces_dead_socket_not_a_served_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
