/*
 * Captures as pcap files (draft-ietf-opsawg-pcap, section 4 and 5) in this machine's byte order,
 * with nanoseconds; every tool reads them. The caller flushes.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <errno.h>

#define MAGIC_NS          0xa1b23c4du
#define LINKTYPE_ETHERNET 1
#define NS_PER_S          UINT64_C(1000000000)

struct file_header {
    uint32_t magic;
    uint16_t major;
    uint16_t minor;
    uint32_t zone;
    uint32_t accuracy;
    uint32_t snap_bytes;
    uint32_t link_type;
};
ASSERT_SIZE(struct file_header, 24);

struct record_header {
    uint32_t seconds;
    uint32_t ns;
    uint32_t kept_bytes;
    uint32_t len_bytes;
};
ASSERT_SIZE(struct record_header, 16);

FILE *fabric_pcap_open(const char *path)
{
    const struct file_header header = {.magic = MAGIC_NS,
                                       .major = 2,
                                       .minor = 4,
                                       .snap_bytes = FABRIC_FRAME_BYTES,
                                       .link_type = LINKTYPE_ETHERNET};
    FILE *file = fopen(path, "wbe");

    if (file == NULL) {
        return NULL;
    }
    if (fwrite(&header, sizeof(header), 1, file) != 1 || fflush(file) != 0) {
        int error = errno;
        fclose(file);
        errno = error;
        return NULL;
    }
    return file;
}

int fabric_pcap_write(FILE *file, uint64_t ns, const void *bytes, uint32_t len_bytes)
{
    const struct record_header header = {.seconds = (uint32_t)(ns / NS_PER_S),
                                         .ns = (uint32_t)(ns % NS_PER_S),
                                         .kept_bytes = len_bytes,
                                         .len_bytes = len_bytes};

    if (fwrite(&header, sizeof(header), 1, file) != 1 ||
        (len_bytes > 0 && fwrite(bytes, len_bytes, 1, file) != 1)) {
        return -errno;
    }
    return 0;
}
