/*
 * Which DMA windows the NIC can reach: those in the host's RAM file, which the NIC's QEMU maps as a
 * whole. A window is then an offset into it.
 */
#include "boards/qemu-virt/pcielink/pcielink.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bits.h"

int pcielink_ram_open(struct pcielink *p)
{
    struct pcielink_ram *ram = &p->ram;
    struct stat info;

    ram->bytes = p->options.ram_bytes;
    ram->fd = open(p->options.ram, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (ram->fd < 0 || fstat(ram->fd, &info) != 0) {
        return -errno;
    }
    if (!S_ISREG(info.st_mode)) {
        return -EINVAL;
    }
    if ((uint64_t)info.st_size < ram->bytes && ftruncate(ram->fd, (off_t)ram->bytes) != 0) {
        return -errno;
    }
    ram->dev = info.st_dev;
    ram->ino = info.st_ino;
    return 0;
}

void pcielink_ram_close(struct pcielink *p)
{
    if (p->ram.fd >= 0) {
        close(p->ram.fd);
        p->ram.fd = -1;
    }
}

int pcielink_ram_map(struct pcielink *p, int fd, uint64_t offset, uint64_t len_bytes,
                     uint64_t *target)
{
    struct stat info;

    if (fstat(fd, &info) != 0) {
        return -errno;
    }
    if (info.st_dev != p->ram.dev || info.st_ino != p->ram.ino) {
        return VFU_DMA_UNREACHABLE; /* option ROMs, firmware variables, display memory */
    }
    if (!range_fits(offset, len_bytes, p->ram.bytes)) {
        return -EINVAL;
    }
    *target = offset;
    return 0;
}
