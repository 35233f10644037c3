/*
 * What is known of commands, and of identifiers that devices tell.
 * Source: NVM Express Base Specification 1.4, 5.15.2.4 and section 6 (opcodes, figure 346).
 */
#include "blk/blk_cmd.h"

#include <string.h>
#include "base/shm.h"
#include "spec/nvme_identify.h"

bool blk_changes_state(uint8_t opcode)
{
    switch (opcode) {
    case NVME_IO_FLUSH:
    case NVME_IO_READ:
    case NVME_IO_COMPARE:
    case NVME_IO_VERIFY:
    case NVME_IO_RESERVATION_REPORT:
        return false;
    default:
        return true;
    }
}

void blk_take_descriptors(struct blk_geometry *geometry, const uint8_t *data, uint32_t len_bytes)
{
    uint32_t at = 0;

    while (at + sizeof(struct nvme_ns_descriptor) <= len_bytes) {
        uint8_t type = shm_load8(&data[at]);
        uint8_t id_bytes = shm_load8(&data[at + 1]);
        const uint8_t *id = data + at + sizeof(struct nvme_ns_descriptor);

        at += (uint32_t)sizeof(struct nvme_ns_descriptor) + id_bytes;
        if (type == 0 || id_bytes == 0 || at > len_bytes) {
            return;
        }
        if (type == NVME_NIDT_EUI64 && id_bytes == sizeof(geometry->eui64)) {
            memcpy(geometry->eui64, id, sizeof(geometry->eui64));
        } else if (type == NVME_NIDT_NGUID && id_bytes == sizeof(geometry->nguid)) {
            memcpy(geometry->nguid, id, sizeof(geometry->nguid));
        } else if (type == NVME_NIDT_UUID && id_bytes == sizeof(geometry->uuid)) {
            memcpy(geometry->uuid, id, sizeof(geometry->uuid));
        }
    }
}
